"""Schemas that stand elsewhere: fetched when a run begins, and part of its definition from then on.

So a run checks its data by the same schemas however long it takes, and finds out at its beginning that one cannot
be had.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from stigmer_dsl import Problem
from stigmer_dsl.errors import MissingSecretError, WorkflowError
from stigmer_dsl.expressions import evaluate, is_expression
from stigmer_dsl.model import AuthenticationPolicy, ExternalResource, Schema, Workflow
from stigmer_dsl.problems import pointer_parts
from stigmer_dsl.schemas import invalid_schema
from stigmer_dsl.secrets import Secrets, fill_secrets, secret_marker
from stigmer_runner import Environments, ExecutionEnvironment, Redactor
from uritemplate import URITemplate

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.concealment import concealment
from workflow_runner.activities.resources import Resources
from workflow_runner.activities.structured import read
from workflow_runner.arguments import SCHEMES
from workflow_runner.document import find

_SECONDS = 10.0
_MOST_BYTES = 512 * 1024
_NONCE = "load"


class Schemas:
    """Puts schemas into definitions."""

    def __init__(self, resources: Resources, environments: Environments) -> None:
        self._resources = resources
        self._environments = environments

    async def inlined(self, definition: str, workflow: Workflow, execution_id: str) -> tuple[str, list[Problem]]:
        """Return a compiled definition with its schemas in it, and what is wrong with them.

        Raises:
            RpcError: The secrets of the execution cannot be had.
        """
        elsewhere = [(at, schema) for at, schema in find(workflow, Schema) if schema.resource is not None]
        if not elsewhere:
            return definition, []
        environment = await self._environments.get(execution_id)
        made: Any = json.loads(definition)
        problems: list[Problem] = []
        left = _MOST_BYTES
        for pointer, schema in elsewhere:
            assert schema.resource is not None  # noqa: S101 - chosen above
            with concealment() as concealed:
                try:
                    document = await self._document(schema.resource, workflow, environment)
                except (CallFailedError, WorkflowError, MissingSecretError) as error:
                    message = Redactor(concealed).text(environment.redactor.text(str(error)))
                    problems.append(Problem(code="schema", message=message, pointer=f"{pointer}/resource"))
                    continue
            left -= len(json.dumps(document))
            if left < 0:
                message = f"the schemas of the workflow take more than {_MOST_BYTES} bytes together"
                return definition, [Problem(code="schema", message=message, pointer=f"{pointer}/resource")]
            _put(made, pointer, {"format": schema.format, "document": document})
        return json.dumps(made, ensure_ascii=False, separators=(",", ":")), problems

    async def _document(self, resource: ExternalResource, workflow: Workflow, environment: ExecutionEnvironment) -> Any:
        uri = resource.endpoint.uri
        if is_expression(uri) or "${" in uri or URITemplate(uri).variable_names:
            detail = "the address of a schema cannot be computed: schemas are fetched when the run begins"
            raise CallFailedError("configuration", detail)
        policy = _policy(resource.endpoint.authentication, workflow, environment)
        found = await self._resources.fetch(
            {"uri": uri, "template": None, "authentication": policy}, seconds=_SECONDS, what="the schema"
        )
        try:
            document = read(found.text)
        except ValueError as error:
            raise CallFailedError("configuration", f"{uri} is neither JSON nor YAML: {error}") from None
        wrong = invalid_schema(document)
        if wrong is not None:
            raise CallFailedError("configuration", f"{uri} is no JSON Schema: {wrong[0] or '/'}: {wrong[1]}")
        return document


def _policy(
    policy: AuthenticationPolicy | None, workflow: Workflow, environment: ExecutionEnvironment
) -> dict[str, Any] | None:
    """Return a policy with its secrets filled in; there is no input yet that it could be computed from."""
    if policy is not None and policy.use is not None:
        policy = workflow.use.authentications.get(policy.use)
    if policy is None:
        return None
    values: Mapping[str, str] = environment.values
    scheme, properties = next((name, found) for name in SCHEMES if (found := getattr(policy, name)) is not None)
    if properties.use is not None:
        made: Any = {"secret": secret_marker(properties.use, nonce=_NONCE)}
    else:
        made = evaluate(properties.to_dict(), None, secrets=Secrets(names=frozenset(values), nonce=_NONCE))
    return {scheme: fill_secrets(made, values, nonce=_NONCE)}


def _put(value: Any, pointer: str, content: Any) -> None:
    *way, last = pointer_parts(pointer)
    for part in way:
        value = cast("list[Any]", value)[int(part)] if isinstance(value, list) else value[part]
    value[last] = content
