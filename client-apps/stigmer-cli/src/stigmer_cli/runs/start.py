"""Starting a run: which workflow, with what."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stigmer_protos import descriptors

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.manifests import Manifest
from stigmer_cli.messages import to_value
from stigmer_cli.plain import Json, is_object
from stigmer_cli.resources import Message, Resources
from stigmer_cli.runs.inputs import NO_INPUT, check_input


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked to be run with."""

    input: Any
    """NO_INPUT when none was given."""
    message: str
    environment: Mapping[str, Mapping[str, Any]]
    idempotency_key: str = ""
    """Names the run, so that asking for it twice runs it once; empty for one that is new every time."""

    def check(self, manifest: Manifest) -> None:
        """Hold the input against the workflow's schema, before anything is stored.

        Raises:
            InvalidInputError: It does not fit.
        """
        if manifest.definition is None:
            return
        value: Json = {} if self.input is NO_INPUT else self.input
        if is_object(value) and self.message:
            value = {"message": self.message, **value}
        check_input(manifest.definition, value)


def pick_workflow(manifests: Sequence[Manifest], name: str) -> Manifest:
    """Return the workflow of that name among the manifests, or the only one when no name is given.

    Raises:
        InvalidInputError: There is none, or there are several and no name tells which.
    """
    workflows = [manifest for manifest in manifests if manifest.kind.name == "Workflow"]
    names = ", ".join(manifest.name for manifest in workflows)
    if name:
        for manifest in workflows:
            if name in {manifest.name, manifest.slug}:
                return manifest
        msg = f"no workflow called {name!r} is declared here"
        raise InvalidInputError(msg, hint=f"declared: {names}" if names else "")
    if not workflows:
        msg = "no workflow is declared here, so there is nothing to run"
        raise InvalidInputError(msg, hint="store what is declared with `stigmer apply -f`, or run a workflow by name")
    if len(workflows) > 1:
        msg = f"{len(workflows)} workflows are declared here"
        raise InvalidInputError(msg, hint=f"say which with --name: {names}")
    return workflows[0]


async def create(resources: Resources, workflow: Message, request: Request) -> Message:
    """Create the execution of a stored workflow; it starts as soon as it can."""
    kind = descriptors.kind_by_enum_name("workflow_execution")
    execution: Message = descriptors.message_type(kind.message)()
    execution.api_version, execution.kind = kind.api_version, kind.name
    execution.metadata.org = workflow.metadata.org
    execution.metadata.name = f"{workflow.metadata.name} {_mark(request.idempotency_key)}"
    execution.metadata.owner_scope = 2
    execution.spec.workflow_id = workflow.metadata.id
    execution.spec.trigger_message = request.message
    if request.input is not NO_INPUT:
        execution.spec.input.CopyFrom(to_value(request.input))
    for name, entry in request.environment.items():
        execution.spec.runtime_env[name].value = entry["value"]
        execution.spec.runtime_env[name].is_secret = bool(entry.get("is_secret"))
    return await resources.create(kind, execution, idempotency_key=request.idempotency_key)


def _mark(key: str) -> str:
    """Return what tells one run from the next; of the same key it is the same, as the whole request must be."""
    return hashlib.sha256(key.encode()).hexdigest()[:8] if key else secrets.token_hex(4)


def require_workflow(kind: str) -> None:
    """Refuse what is no workflow.

    Raises:
        InvalidInputError: It is something else.
    """
    if kind != "Workflow":
        msg = f"a resource of kind {kind} cannot be run"
        raise InvalidInputError(msg, hint="`stigmer get workflows` lists what can be run")
