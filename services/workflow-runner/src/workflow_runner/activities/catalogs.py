"""Functions that stand in catalogs, or at addresses of their own: fetched when a run is loaded, and kept in it.

A catalog is a folder: `functions/NAME/VERSION/function.yaml` is the function that `NAME:VERSION@CATALOG` calls. A
function that was fetched becomes one of `use.functions`, by the name that it is called by.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from stigmer_dsl import parse_function, validate
from stigmer_dsl.errors import DocumentError
from stigmer_dsl.expressions import evaluate
from stigmer_dsl.model import CallFunctionTask, EndpointConfiguration, Workflow
from stigmer_dsl.secrets import Secrets, fill_secrets, find_secrets
from stigmer_runner import Environments

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.resources import Resources
from workflow_runner.arguments import evaluate_endpoint
from workflow_runner.call_messages import EndpointArguments
from workflow_runner.document import find
from workflow_runner.tasks.port import Step

DEFAULT = "default"
"""The catalog that is the operator's, unless the document has one of this name."""
_CATALOGED = re.compile(r"(?P<name>[\w.-]+):(?P<version>[\w.+-]+)@(?P<catalog>[\w.-]+)")
_GITHUB = re.compile(
    r"/(?P<repository>[^/]+/[^/@]+)(?:/(?:tree|blob)/(?P<ref>[^/]+))?(?P<path>/[^@]*)?(?:@(?P<at>.+))?"
)
_GITLAB = re.compile(r"/(?P<repository>.+?)/-/(?:tree|blob|raw)/(?P<rest>.+)")
_SECONDS = 10.0
_MOST = 100
"""Functions that one run may have from elsewhere."""
_NONCE = "catalogs"
"""Of the markers that stand for secrets between evaluating an endpoint and filling them in, here in one place."""


class Catalogs:
    """Fetches functions."""

    def __init__(self, resources: Resources, environments: Environments, *, default: str) -> None:
        """Fetch by `resources`; `default` is the address of the operator's catalog, empty where there is none."""
        self._resources = resources
        self._environments = environments
        self._default = default

    async def completed(self, workflow: Workflow, execution_id: str, secrets: frozenset[str]) -> Workflow:
        """Return a workflow with every function in it that it calls; itself where it has them all.

        Raises:
            CallFailedError: A function cannot be had.
            DocumentError: One is not valid, or calls itself.
        """
        missing = _missing(workflow)
        if not missing:
            return workflow
        value = workflow.to_dict()
        functions: dict[str, Any] = value.setdefault("use", {}).setdefault("functions", {})
        fetched = 0
        while missing:
            fetched += len(missing)
            if fetched > _MOST:
                raise CallFailedError("configuration", f"the workflow calls more than {_MOST} functions of catalogs")
            made = await asyncio.gather(*(self._function(call, workflow, execution_id, secrets) for call in missing))
            functions |= dict(zip(missing, made, strict=True))
            workflow = validate(value, secrets=secrets)
            missing = _missing(workflow)
        return workflow

    async def _function(
        self, call: str, workflow: Workflow, execution_id: str, secrets: frozenset[str]
    ) -> dict[str, Any]:
        endpoint = await self._endpoint(call, workflow, execution_id, secrets)
        resource = await self._resources.fetch(endpoint, seconds=_SECONDS, what=f"the function {call}")
        return parse_function(resource.text, name=endpoint["uri"], catalogs=workflow.use.catalogs)

    async def _endpoint(
        self, call: str, workflow: Workflow, execution_id: str, secrets: frozenset[str]
    ) -> EndpointArguments:
        """Return where the file of a function is."""
        if "://" in call:
            return {"uri": raw_address(call), "template": None, "authentication": None}
        found = _CATALOGED.fullmatch(call)
        if found is None or ".." in (found["name"], found["version"]):
            raise CallFailedError("configuration", f"{call!r} is no function of a catalog: write name:version@catalog")
        catalog = workflow.use.catalogs.get(found["catalog"])
        root: EndpointArguments = {"uri": self._default, "template": None, "authentication": None}
        if catalog is not None:
            root = await self._evaluated(catalog.endpoint, workflow, execution_id, secrets)
        if not root["uri"]:
            detail = f"{call} is of the default catalog, and this runner has none (STIGMER_DEFAULT_CATALOG)"
            raise CallFailedError("configuration", detail)
        file = f"{root['uri'].rstrip('/')}/functions/{found['name']}/{found['version']}/function.yaml"
        return {**root, "uri": raw_address(file)}

    async def _evaluated(
        self, endpoint: EndpointConfiguration, workflow: Workflow, execution_id: str, secrets: frozenset[str]
    ) -> EndpointArguments:
        known = Secrets(names=secrets | frozenset(workflow.use.secrets), nonce=_NONCE)
        found = evaluate_endpoint(endpoint, cast("Step", _AtLoad(workflow, known)))
        if not find_secrets(found, nonce=_NONCE):
            return found
        environment = await self._environments.get(execution_id)
        return fill_secrets(found, environment.values, nonce=_NONCE)


class _AtLoad:
    """What evaluating an endpoint needs of a step, before there is one: no data, only secrets."""

    input: Any = None
    pointer = "/use/catalogs"

    def __init__(self, workflow: Workflow, secrets: Secrets) -> None:
        self.workflow = workflow
        self._secrets = secrets

    def evaluate(self, value: Any, variables: Mapping[str, Any] | None = None) -> Any:
        return evaluate(value, None, variables or {}, secrets=self._secrets, mode=self.workflow.evaluate.mode)


def raw_address(url: str) -> str:
    """Return where the file itself is that GitHub and GitLab show at an address; other addresses as they are."""
    parts = urlsplit(url)
    if parts.hostname in ("github.com", "www.github.com") and (found := _GITHUB.fullmatch(parts.path)):
        ref, path = found["at"] or found["ref"] or "HEAD", found["path"] or ""
        path = path if path.endswith((".yaml", ".yml", ".json")) else f"{path.rstrip('/')}/function.yaml"
        return f"https://raw.githubusercontent.com/{found['repository']}/{ref}{path}"
    if parts.hostname == "gitlab.com" and (found := _GITLAB.fullmatch(parts.path)):
        return f"https://gitlab.com/{found['repository']}/-/raw/{found['rest']}"
    return url


def _missing(workflow: Workflow) -> list[str]:
    """Return the functions that are called and stand somewhere else."""
    called = dict.fromkeys(task.call for _, task in find(workflow, CallFunctionTask))
    return [call for call in called if call not in workflow.use.functions]


def may_be_had_later(error: Exception) -> bool:
    """Whether a function that could not be had may be had when it is asked for again."""
    if isinstance(error, DocumentError) or not isinstance(error, CallFailedError):
        return False
    return error.name == "timeout" or (error.name == "communication" and error.error.status >= 500)
