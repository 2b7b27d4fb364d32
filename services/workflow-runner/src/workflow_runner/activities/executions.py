"""Waiting for executions that a run has started, reading how they ended, and stopping them: workflows' and agents'."""

import base64
from collections.abc import Mapping
from typing import Any

from loguru import logger
from stigmer_dsl.errors import WorkflowError
from stigmer_grpc.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    RpcError,
    UnimplementedError,
)
from stigmer_runner import StigmerServer, read_value
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.activities.values import Values
from workflow_runner.call_messages import CallAnswer

IDEMPOTENCY_KEY = "x-stigmer-idempotency-key"
REFUSALS: Mapping[type[RpcError], str] = {
    InvalidArgumentError: "validation",
    PermissionDeniedError: "authorization",
    NotFoundError: "configuration",
    FailedPreconditionError: "configuration",
    ResourceExhaustedError: "configuration",  # a limit of size
}
"""What the server says for good, and which standard error that is. Anything else may be otherwise the next time."""
CALLED_BY = "stigmer.ai/called-by"
"""Label of an execution that another one waits for: when that one is terminated, the server terminates it, too."""
CALL_DEPTH = "stigmer.ai/call-depth"
"""Label of an execution that a workflow started: how many stand above it, each of which ran the next one."""
_DEPTH_DIGITS = 9
_COMPLETED = 3
_AI = 2
"""MessageType: what the agent says."""
_AGENT = "aex-"

Message = Any


def call_depth(execution: Message) -> int:
    """Return how many workflows stand above an execution, as its label says; labels are anybody's to write."""
    told = execution.metadata.labels.get(CALL_DEPTH, "")
    return int(told[:_DEPTH_DIGITS]) if told.isascii() and told.isdigit() else 0


class Executions:
    """Waits for, reads and cancels executions by their ids."""

    def __init__(self, server: StigmerServer, values: Values) -> None:
        self._server = server
        self._values = values

    @activity.defn(name=names.AWAIT_EXECUTION)
    async def wait(self, key: str) -> None:
        """Give the run the token by which the server ends this activity when the execution has ended."""
        info = activity.info()
        run = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        await run.signal(names.TOKEN, {"id": key, "token": base64.b64encode(info.task_token).decode()})
        activity.raise_complete_async()

    @activity.defn(name=names.READ_EXECUTION)
    async def read(self, execution: str) -> Any:
        """Return how an execution ended, as a `CallAnswer`; of an agent with everything that a task may output.

        Raises:
            RpcError: The server is away.
        """
        async with heartbeats(SERVER_SECONDS):
            try:
                found = await self._server.call(f"{_package(execution)}QueryController", "get", {"value": execution})
            except NotFoundError:
                detail = f"the execution {execution} was deleted before its end was known"
                return {"error": WorkflowError.standard("runtime", detail).to_dict()}
            except ResourceExhaustedError as error:
                return await self._read_apart(execution, error)
            is_large = not execution.startswith(_AGENT) and found.status.HasField("large_output")
            if is_large and found.status.phase == _COMPLETED:
                return {"output": await self._values.output(execution)}
        return _answer(found)

    async def _read_apart(self, execution: str, too_large: RpcError) -> CallAnswer:
        """Return how an execution ended that is too large for a message: a workflow's output can be had alone."""
        output = None if execution.startswith(_AGENT) else await self._values.output(execution)
        if output is not None:  # only a completed one has any
            return {"output": output}
        detail = f"how the execution {execution} ended cannot be read, it is too large: {too_large.message}"
        return {"error": WorkflowError.standard("runtime", detail).to_dict()}

    @activity.defn(name=names.CANCEL_EXECUTION)
    async def cancel(self, execution: str) -> None:
        """Ask an execution to stop; one that has ended, or is gone, is left alone.

        Raises:
            RpcError: The server is away.
        """
        async with heartbeats(SERVER_SECONDS):
            try:
                await self._server.call(f"{_package(execution)}ControlController", "cancel", {"id": execution})
            except (*REFUSALS, UnimplementedError) as error:
                logger.info("{} is not cancelled: {}", execution, error)


def _package(execution: str) -> str:
    """Return what the names of the services of an execution's kind begin with."""
    kind = "Agent" if execution.startswith(_AGENT) else "Workflow"
    return f"ai.stigmer.agentic.{kind.lower()}execution.v1.{kind}Execution"


def _answer(execution: Message) -> CallAnswer:
    id_, status = execution.metadata.id, execution.status
    is_agent = id_.startswith(_AGENT)
    if status.phase == _COMPLETED:
        return {"output": _agent_run(execution) if is_agent else read_value(status.output_value)}
    if not is_agent and status.HasField("error_details"):
        return {"error": _problem(read_value(status.error_details))}
    phase = status.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number[status.phase].name
    ended = phase.removeprefix("EXECUTION_").lower()
    detail = f"the execution {id_} is {ended}: {status.error or status.status_reason or 'no reason was given'}"
    return {"error": WorkflowError.standard("runtime", detail).to_dict()}


def _agent_run(execution: Message) -> dict[str, Any]:
    status = execution.status
    usage = status.usage
    return {
        "id": execution.metadata.id,
        "session": execution.spec.session_id,
        "output": read_value(status.output) if status.HasField("output") else _last_words(status),
        "usage": {field.name: value for field, value in usage.ListFields()},
        "files": [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in status.artifacts],
    }


def _last_words(status: Message) -> str:
    said = (message.content for message in reversed(status.messages) if message.type == _AI and message.content)
    return next(said, "")


def _problem(details: Any) -> dict[str, Any]:
    # Where it happened is a place in another document.
    return {key: value for key, value in details.items() if key != "instance"}
