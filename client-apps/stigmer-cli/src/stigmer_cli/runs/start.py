"""Starting a run: of which workflow or agent, with what."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli import references
from stigmer_cli.errors import InvalidInputError, NotFoundError
from stigmer_cli.files import transfer
from stigmer_cli.files.given import Given
from stigmer_cli.manifests import Manifest
from stigmer_cli.messages import to_value
from stigmer_cli.plain import Json, is_object
from stigmer_cli.resources import Message, Resources
from stigmer_cli.runs.inputs import NO_INPUT, check_input
from stigmer_cli.runs.instances import instance_of

_MODEL = "STIGMER_LLM_MODEL"
"""Variable of a workflow's run that names the model which answers where a task names none."""
RUNNABLE = ("Workflow", "Agent")
"""Kinds that can be run; where both fit, the first one is meant."""
_AUTO_CREATED = "stigmer.ai/auto-created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked to be run with."""

    input: Any
    """NO_INPUT when none was given."""
    message: str
    environment: Mapping[str, Mapping[str, Any]]
    idempotency_key: str = ""
    """Names the run, so that asking for it twice runs it once; empty for one that is new every time."""
    session: str = ""
    """Of an agent: the conversation that goes on; empty begins a new one."""
    from_run: str = ""
    """Of a workflow: the earlier run whose state this one begins with; empty begins at the beginning."""
    from_task: str = ""
    """The task to begin with then; empty is where that one was last."""
    model: str = ""
    """`provider:model`; empty leaves it to the agent, or the workflow's tasks, and the runner."""
    files: tuple[Given, ...] = ()
    """Of an agent: what is put into its workspace before it begins."""
    environments: tuple[str, ...] = ()
    """Names of environments whose variables and secrets it has, the later before the earlier."""

    def check_kind(self, kind: str) -> None:
        """Refuse what a run of this kind cannot take, before anything is stored. Raises: InvalidInputError."""
        if self.from_task and not self.from_run:
            raise InvalidInputError("--from-task needs --from RUN", hint="`stigmer recover` runs the same run again")
        if self.from_run and (kind == "Agent" or self.input is not NO_INPUT or self.message):
            hint = "a run of a workflow that begins with another one's state has that one's input"
            raise InvalidInputError("--from goes with a workflow, and without --input and --message", hint=hint)
        if self.environments and self.session:
            raise InvalidInputError("--env-from is for a new conversation", hint="a session keeps its environments")
        if kind == "Agent":
            if self.input is not NO_INPUT:
                raise InvalidInputError("--input is for workflows", hint="tell the agent with --message TEXT")
            if not self.message:
                raise InvalidInputError("an agent needs something to do", hint="tell it with --message TEXT")
        elif self.session or self.files:
            msg = f"{'--session' if self.session else '--file'} is for agents"
            raise InvalidInputError(msg, hint="a workflow says itself which agents it calls, and with what")

    def check(self, manifest: Manifest) -> None:
        """Hold the request against what the manifest declares, before anything is stored.

        Raises:
            InvalidInputError: It does not fit.
        """
        self.check_kind(manifest.kind.name)
        if manifest.definition is None or self.from_run:
            return
        value: Json = {} if self.input is NO_INPUT else self.input
        if is_object(value) and self.message:
            value = {"message": self.message, **value}
        check_input(manifest.definition, value)


def pick(manifests: Sequence[Manifest], name: str) -> Manifest:
    """Return what to run: what has the name, or the only workflow, or the only agent where there is no workflow.

    Raises:
        InvalidInputError: There is none, or there are several and no name tells which.
    """
    for kind in RUNNABLE:
        found = [manifest for manifest in manifests if manifest.kind.name == kind]
        named = [manifest for manifest in found if not name or name in {manifest.name, manifest.slug}]
        if len(named) == 1:
            return named[0]
        if found and not name:
            msg = f"{len(found)} {kind.lower()}s are declared here"
            raise InvalidInputError(msg, hint=f"say which with --name: {', '.join(each.name for each in found)}")
    names = ", ".join(manifest.name for manifest in manifests if manifest.kind.name in RUNNABLE)
    if name:
        msg = f"nothing called {name!r} that could be run is declared here"
        raise InvalidInputError(msg, hint=f"declared: {names}" if names else "")
    msg = "neither a workflow nor an agent is declared here, so there is nothing to run"
    raise InvalidInputError(msg, hint="store what is declared with `stigmer apply -f`, or run something by its name")


async def create(resources: Resources, runnable: Message, request: Request) -> Message:
    """Create the execution of a stored workflow or agent; it starts as soon as it can."""
    instance = await instance_of(resources, runnable, request.environments) if request.environments else ""
    if runnable.kind == "Agent" and (request.files or instance):
        request = replace(request, session=await ready_session(resources, runnable, request, instance))
    make = _of_agent if runnable.kind == "Agent" else _of_workflow
    kind, execution = make(runnable, request)
    if runnable.kind != "Agent":
        execution.spec.workflow_instance_id = instance
    execution.metadata.org = runnable.metadata.org
    execution.metadata.name = f"{runnable.metadata.name} {_mark(request.idempotency_key)}"
    for name, entry in request.environment.items():
        execution.spec.runtime_env[name].value = entry["value"]
        execution.spec.runtime_env[name].is_secret = bool(entry.get("is_secret"))
    return await resources.create(kind, execution, idempotency_key=request.idempotency_key)


async def ready_session(resources: Resources, agent: Message, request: Request, instance: str) -> str:
    """Put the request's files into its session, opened with an instance where there is none yet; return its id."""
    session = request.session or await _open_session(resources, agent, request.idempotency_key, instance)
    if not request.files:
        return session
    try:
        await transfer.put(resources.channel, session, request.files)
    except BaseException:
        # Nobody knows of it. With a key it is what the next attempt goes on with.
        if not request.session and not request.idempotency_key:
            await resources.delete(descriptors.kind_by_enum_name("session"), session)
        raise
    return session


async def _open_session(resources: Resources, agent: Message, key: str, instance: str) -> str:
    """Open a session that goes with its last run, as one does that the server opens; "" is the default instance."""
    kind = descriptors.kind_by_enum_name("session")
    session: Message = descriptors.message_type(kind.message)()
    session.api_version, session.kind = kind.api_version, kind.name
    scope = agent.metadata.owner_scope
    # A session cannot belong to the platform; that of a platform's agent belongs to whoever runs it.
    session.metadata.org, session.metadata.owner_scope = agent.metadata.org, 2 if scope == 1 else scope
    session.metadata.name = f"{agent.metadata.name} {_mark(key)}"
    session.metadata.labels[_AUTO_CREATED] = "true"
    session.spec.agent_instance_id = instance or agent.status.default_instance_id
    session.spec.subject = "A run with files" if not instance else "A run with environments"
    made = await resources.create(kind, session, idempotency_key=f"{key} session" if key else "")
    return made.metadata.id


def _of_workflow(workflow: Message, request: Request) -> tuple[Kind, Message]:
    kind, execution = _new("workflow_execution")
    execution.metadata.owner_scope = 2
    execution.spec.workflow_id = workflow.metadata.id
    execution.spec.trigger_message = request.message
    if request.input is not NO_INPUT:
        execution.spec.input.CopyFrom(to_value(request.input))
    if request.from_run:
        execution.spec.from_execution, execution.spec.from_task = request.from_run, request.from_task
    if request.model:
        execution.spec.runtime_env[_MODEL].value = request.model
    return kind, execution


def _of_agent(agent: Message, request: Request) -> tuple[Kind, Message]:
    kind, execution = _new("agent_execution")
    # A session knows whose it is.
    if request.session:
        execution.spec.session_id = request.session
    else:
        execution.spec.agent_id = agent.metadata.id
    execution.spec.message = request.message
    if request.model:
        execution.spec.execution_config.model_name = request.model
    return kind, execution


def _new(name: str) -> tuple[Kind, Message]:
    kind = descriptors.kind_by_enum_name(name)
    execution: Message = descriptors.message_type(kind.message)()
    execution.api_version, execution.kind = kind.api_version, kind.name
    return kind, execution


def _mark(key: str) -> str:
    """Return what tells one run from the next; of the same key it is the same, as the whole request must be."""
    return hashlib.sha256(key.encode()).hexdigest()[:8] if key else secrets.token_hex(4)


async def find(resources: Resources, text: str, *, org: str) -> Message:
    """Return the stored workflow, or else agent, that a reference means.

    Raises:
        InvalidInputError: It is something else.
        NotFoundError: There is neither.
    """
    kinds = [descriptors.kind_by_name(name) for name in RUNNABLE]
    named = references.parse(text, kind=None if references.kind_of_id(text) else kinds[0], org=org)
    if named.kind not in kinds:
        msg = f"a resource of kind {named.kind.name} cannot be run"
        raise InvalidInputError(msg, hint="`stigmer get workflows` and `stigmer get agents` list what can be run")
    if named.kind is kinds[0] and not named.id and not references.names_kind(text):
        found = await resources.find(named) or await resources.find(replace(named, kind=kinds[1]))
        if found is None:
            msg = f"there is no workflow and no agent {named.slug!r} in organization {named.org!r}"
            raise NotFoundError(msg, hint="`stigmer get workflows` and `stigmer get agents` list those there are")
        return found
    return await resources.get(named)
