"""A server of one's own for tests and benchmarks of runners: the controllers they use, in memory, over gRPC.

It keeps to what stigmer-server promises: tasks are upserted by id, a finished execution never changes back and is
given to nobody to run, and values of the environment are given to nobody but the runner, for the execution's token.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from stigmer_grpc import CallContext, FailedPreconditionError, NotFoundError, Server, UnauthenticatedError, bind
from stigmer_grpc.binding import Message
from stigmer_protos import descriptors
from stigmer_runner import EXECUTION_TOKEN, RUNTIME, fill_value, read_value

from workflow_runner.testing.agents import PeerAgents
from workflow_runner.testing.children import PeerChildren
from workflow_runner.testing.events import PeerEvents
from workflow_runner.testing.values import PeerValues

_COMMAND = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionCommandController"
_EXECUTION = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecution"
_RUN = "ai.stigmer.runtime.v1.WorkflowRun"
_TOKEN = "ai.stigmer.runtime.v1.ExecutionToken"  # noqa: S105 - the name of a message
_TOKEN_SECONDS = 900
_ENVIRONMENT = "ai.stigmer.runtime.v1.ExecutionEnvironment"
_DOCUMENT = {"dsl": "1.0.0", "namespace": "test", "name": "test", "version": "1.0.0"}
_LAST_PHASES = frozenset({3, 4, 5})
_WAIT_SECONDS = 60.0


@dataclass(kw_only=True)
class Execution:
    """One execution, and everything that was reported of it."""

    id: str
    definition: str = ""
    """The DSL document, unless there are `tasks`."""
    tasks: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The stored form: name, kind and task_config of each task."""
    input: Any = None
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    status: Message = None
    updates: list[Message] = field(default_factory=list[Message])
    """Every update as it came."""
    checkpoints: list[Message] = field(default_factory=list[Message])
    """Every checkpoint as it came."""
    begin_at: str | None = None
    """Of a recovered execution: the task to begin with, empty for the one that failed."""
    from_execution: str = ""
    """The earlier execution whose checkpoint it begins with."""
    recoveries: int = 0
    large_input: Message = None
    """Names the input where the peer's values have it."""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    callback: bytes = b""
    """Token of the activity that waits for its end."""

    @property
    def phase(self) -> str:
        """The phase without its prefix, such as COMPLETED."""
        name = self.status.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number[self.status.phase].name
        return name.removeprefix("EXECUTION_")

    @property
    def output(self) -> Any:
        """The output, of any JSON type."""
        return read_value(self.status.output_value)

    @property
    def error(self) -> Any:
        """The problem details."""
        return read_value(self.status.error_details)

    @property
    def reported(self) -> dict[str, Message]:
        """The tasks by id, in the order in which they were first reported."""
        return {task.task_id: task for task in self.status.tasks}


class PeerServer:
    """The server. It can be stopped and started again at the same address, and keeps what it knows."""

    def __init__(self) -> None:
        self.executions: dict[str, Execution] = {}
        self.address = ""
        self.calls = 0
        self.events = PeerEvents()
        self.values = PeerValues()
        self.children = PeerChildren(self)
        self.agents = PeerAgents()
        self.when_over: Callable[[Execution], Awaitable[None] | None] = lambda _: None
        """Called when an execution is told to be over, before whoever tells it is answered."""
        self.gives = asyncio.Event()
        """Set unless whoever asks for a run is to wait."""
        self.gives.set()
        self._changed = asyncio.Condition()
        self._server: Server | None = None

    def add(self, execution: Execution) -> Execution:
        """Keep `execution`, ready to be run."""
        message: Message = descriptors.message_type(_EXECUTION)()
        execution.status = message.status
        self.executions[execution.id] = execution
        self.events.begun[execution.id] = len(self.events.kept)
        return execution

    async def until(self, execution: Execution, holds: Callable[[Execution], bool]) -> None:
        """Return once `holds` is true of `execution`; at most a minute."""
        async with asyncio.timeout(_WAIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: holds(execution))

    async def start(self, address: str = "127.0.0.1:0") -> None:
        """Serve at `address`, or on a free port."""
        pool = descriptors.pool()
        services = [
            bind(
                pool,
                RUNTIME,
                {
                    "getWorkflowRun": self._get_run,
                    "issueToken": self._issue_token,
                    "getEnvironment": self._get_environment,
                    "saveCheckpoint": self._save_checkpoint,
                    **self.values.handlers(),
                },
            ),
            bind(pool, _COMMAND, {"updateStatus": self._update_status, "create": self.children.create}),
            *self.children.services(),
            *self.events.services(),
            *self.agents.services(),
        ]
        self._server = Server(services, pool=pool)
        (self.address,) = await self._server.start(address)

    async def stop(self) -> None:
        """Stop serving; what is known stays."""
        if self._server is not None:
            await self._server.stop(grace=0)
            self._server = None

    def find(self, execution_id: str) -> Execution:
        """Return an execution. Raises: NotFoundError."""
        self.calls += 1
        found = self.executions.get(execution_id)
        if found is None:
            raise NotFoundError(f"there is no workflow execution {execution_id!r}")
        return found

    async def _get_run(self, request: Message, _: CallContext) -> Message:
        await self.gives.wait()
        execution = self.find(request.execution_id)
        if execution.status.phase in _LAST_PHASES:
            raise FailedPreconditionError(f"{execution.id} has ended; there is nothing left to run")
        run: Message = descriptors.message_type(_RUN)()
        run.execution_id = execution.id
        run.org = "acme"
        run.call_depth = int(execution.labels.get("stigmer.ai/call-depth", "0"))
        if execution.tasks:
            spec = {"document": _DOCUMENT, "tasks": execution.tasks}
            json_format.ParseDict(spec, run.workflow.spec, descriptor_pool=descriptors.pool())
        else:
            run.workflow.spec.definition = execution.definition
        if execution.large_input is not None:
            run.large_input.CopyFrom(execution.large_input)
        else:
            fill_value(run.input, execution.input)
        run.secret_names.extend(sorted(execution.secrets))
        run.variable_names.extend(sorted(execution.variables))
        if execution.begin_at is not None:
            run.begin_at, run.from_execution = execution.begin_at, execution.from_execution
            checkpoint = _checkpoint_with(execution, execution.begin_at)
            run.checkpoint = checkpoint.content
            if checkpoint.HasField("large_content"):
                run.large_checkpoint.CopyFrom(checkpoint.large_content)
        return run

    async def _save_checkpoint(self, request: Message, _: CallContext) -> Message:
        self.find(request.execution_id).checkpoints.append(request)
        return descriptors.message_type("google.protobuf.Empty")()

    async def _issue_token(self, request: Message, _: CallContext) -> Message:
        token: Message = descriptors.message_type(_TOKEN)()
        token.token = f"token of {self.find(request.execution_id).id}"
        token.expires_at.FromSeconds(int(time.time()) + _TOKEN_SECONDS)
        return token

    async def _get_environment(self, request: Message, context: CallContext) -> Message:
        execution = self.find(request.execution_id)
        if context.metadata.get(EXECUTION_TOKEN) != f"token of {execution.id}":
            raise UnauthenticatedError("the values of an execution are given for its own token only")
        environment: Message = descriptors.message_type(_ENVIRONMENT)()
        for values, is_secret in ((execution.variables, False), (execution.secrets, True)):
            for name, value in values.items():
                environment.values[name].value = value
                environment.values[name].is_secret = is_secret
        return environment

    async def _update_status(self, request: Message, _: CallContext) -> Message:
        execution = self.find(request.execution_id)
        update = request.status
        execution.updates.append(update)
        if execution.status.phase not in _LAST_PHASES:
            _merge(execution.status, update)
        async with self._changed:
            self._changed.notify_all()
        if execution.status.phase in _LAST_PHASES:
            if (doing := self.when_over(execution)) is not None:
                await doing
            await self.children.ended(execution)
        return descriptors.message_type(_EXECUTION)()


def _checkpoint_with(execution: Execution, reference: str) -> Message:
    """Return the newest checkpoint that has a task, or that tells of the failure."""
    for checkpoint in reversed(execution.checkpoints):
        if any(item.reference == reference or (item.failed and not reference) for item in checkpoint.positions):
            return checkpoint
    raise NotFoundError(f"no checkpoint of {execution.id} has {reference!r}")


def _merge(status: Message, update: Message) -> None:
    known = {task.task_id: task for task in status.tasks}
    for task in update.tasks:
        stands = known.get(task.task_id)
        (status.tasks.add() if stands is None else stands).CopyFrom(task)
    for name in ("phase", "started_at", "completed_at", "error", "temporal_workflow_id"):
        if getattr(update, name):
            setattr(status, name, getattr(update, name))
    for name in ("output", "output_value", "error_details", "large_output"):
        if update.HasField(name):
            getattr(status, name).CopyFrom(getattr(update, name))


@contextlib.asynccontextmanager
async def peer_server() -> AsyncGenerator[PeerServer]:
    """Serve until the block ends."""
    server = PeerServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
