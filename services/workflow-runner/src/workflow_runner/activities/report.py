"""Telling the server what happened in a run."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

from loguru import logger
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.secrets import mask_secrets
from stigmer_grpc.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnimplementedError
from stigmer_protos import descriptors
from stigmer_runner import MINIMAL, RUNTIME, StigmerServer, fill_struct, fill_value, is_too_deep, read_value, sayable
from stigmer_runner.claims import Owner
from temporalio import activity
from temporalio.exceptions import ApplicationError

from workflow_runner import names
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.activities.values import LARGE_BYTES, Values, execution_of, json_text
from workflow_runner.checkpoint import Checkpoint
from workflow_runner.messages import Report, TaskRecord
from workflow_runner.sizes import preview, size_of

_COMMAND = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionCommandController"
QUERY = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionQueryController"
_INPUT = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionUpdateStatusInput"
_CHECKPOINT = "ai.stigmer.runtime.v1.WorkflowCheckpoint"
_PACKAGE = "ai.stigmer.agentic.workflowexecution.v1"

RESULT = "result"
"""The key of a value that is no object, where only an object can be shown."""

Message = Any


FINAL = (NotFoundError, InvalidArgumentError, FailedPreconditionError)
"""What the server says for good: no repetition changes it."""
REFUSED = (*FINAL, UnimplementedError)
"""The same, of what a server may not know yet."""


@contextmanager
def final_refusals() -> Generator[None]:
    """Let what the server says for good fail the activity for good."""
    try:
        yield
    except FINAL as error:
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from None


class Reporting:
    """Delivers reports. The same report delivered twice is the same as once: the server goes by task ids."""

    def __init__(self, server: StigmerServer, values: Values) -> None:
        self._server = server
        self._values = values

    @activity.defn(name=names.REPORT)
    async def report(self, report: Any) -> None:
        """Deliver one report.

        Raises:
            RpcError: The server is away, or refuses it.
        """
        with final_refusals():
            async with heartbeats(SERVER_SECONDS):
                await self.deliver(report)

    async def deliver(self, report: Report) -> None:
        """Deliver one report from within another activity; raises as `report` does."""
        if (checkpoint := report.get("checkpoint")) is not None:
            await self._keep(report, checkpoint)
            if not report["tasks"] and "phase" not in report:
                return
        is_apart = report.get("large") or is_too_deep(report.get("output"))
        message = await self._with_large_output(report) if is_apart else _message(report)
        if report.get("replaces"):
            _fit_contract(message.status)
            if message.status.tasks:
                await self._add_known(message)
        await self._server.call(_COMMAND, "updateStatus", message, metadata=MINIMAL)

    async def _add_known(self, message: Message) -> None:
        """Put the tasks of a report among those that the server has, which forgets what a report leaves out."""
        found = await self._server.call(QUERY, "get", {"value": message.execution_id})
        tasks = {task.task_id: task for task in (*found.status.tasks, *message.status.tasks)}
        del message.status.tasks[:]
        message.status.tasks.extend(tasks.values())

    async def _with_large_output(self, report: Report) -> Message:
        """Return the message of a report whose output goes to the server by itself; the message shows some of it."""
        output, text = await asyncio.to_thread(_shown, report)
        message = _message({**report, "output": preview(output, len(text))})
        try:
            large = await self._values.put(report["execution_id"], text)
        except REFUSED as error:
            # Such as one larger than the server takes. What is shown of it is better than no end of the run.
            logger.warning("the output of {} is not kept whole: {}", report["execution_id"], error)
        else:
            message.status.large_output.CopyFrom(large)
        return message

    async def tell_lost(self, owner: Owner, detail: str) -> None:
        """Say that a run cannot go on because a value of it is lost.

        Raises:
            RpcError: The server is away, or refuses it.
        """
        error = WorkflowError.standard("runtime", detail).to_dict()
        await self.deliver(
            {
                "execution_id": execution_of(owner.workflow_id),
                "tasks": [],
                "phase": "FAILED",
                "error": error,
                "workflow_id": owner.workflow_id,
            }
        )

    async def _keep(self, report: Report, checkpoint: Checkpoint) -> None:
        """Have a checkpoint kept. Without it the execution cannot be recovered, and nothing else is worse."""
        request: Message = descriptors.message_type(_CHECKPOINT)(
            execution_id=report["execution_id"],
            temporal_workflow_id=report.get("workflow_id", ""),
        )
        for position in checkpoint["positions"]:
            request.positions.add(**position)
        content = checkpoint["content"].encode()
        try:
            if len(content) > LARGE_BYTES:
                request.large_content.CopyFrom(await self._values.put(report["execution_id"], content))
            else:
                request.content = content
            await self._server.call(RUNTIME, "saveCheckpoint", request)
        except REFUSED as error:
            logger.debug("the checkpoint of {} is not kept: {}", report["execution_id"], error)


def _fit_contract(status: Message) -> None:
    """Show inputs and outputs that are no objects where a server looks that knows no other place: in one."""
    places = [(status, "output"), *((task, name) for task in status.tasks for name in ("input", "output"))]
    for holder, name in places:
        if holder.HasField(f"{name}_value") and not holder.HasField(name):
            fill_struct(getattr(holder, name), {RESULT: read_value(getattr(holder, f"{name}_value"))})


def _shown(report: Report) -> tuple[Any, bytes]:
    """Return the output as people may see it, and its text."""
    output = report.get("output")
    if report.get("may_hold_markers", True):
        output = mask_secrets(output)
    return output, json_text(output)


def _message(report: Report) -> Message:
    message: Message = descriptors.message_type(_INPUT)()
    message.execution_id = report["execution_id"]
    status = message.status
    status.SetInParent()
    if "phase" in report:
        status.phase = _number("ExecutionPhase", f"EXECUTION_{report['phase']}")
    status.started_at = report.get("started_at", "")
    status.completed_at = report.get("completed_at", "")
    status.temporal_workflow_id = report.get("workflow_id", "")
    if report.get("may_hold_markers", True):
        report = mask_secrets(report)
    if "output" in report:
        _fill(status, "output", report["output"])
    if "error" in report:
        _fill_error(status, report["error"])
    before: tuple[Any, Message | None] = (None, None)
    for task in report["tasks"]:
        filled = status.tasks.add()
        _fill_task(filled, task, before)
        if "output" in task:
            before = (task["output"], filled)
    return message


def _fill_task(message: Message, task: TaskRecord, before: tuple[Any, Message | None]) -> None:
    message.task_id = task["id"]
    message.task_name = task["name"]
    message.task_type = _number("WorkflowTaskType", task["type"])
    message.kind = task["kind"]
    message.reference = task["reference"]
    message.parent_id = task["parent"]
    if task["iteration"] is not None:
        message.iteration = task["iteration"]
    message.attempt = task["attempt"]
    message.status = _number("WorkflowTaskStatus", f"WORKFLOW_TASK_{task['status']}")
    message.started_at = task["started_at"]
    message.completed_at = task.get("completed_at", "")
    output, filled = before
    # Mostly a task's input is the last one's output: copying what was filled then costs next to nothing. By their
    # texts, because true and 1 are equal as values.
    if filled is not None and repr(task["input"]) == repr(output):
        message.input_value.CopyFrom(filled.output_value)
        if isinstance(output, dict):
            message.input.CopyFrom(filled.output)
    else:
        _fill(message, "input", task["input"])
    if "output" in task:
        _fill(message, "output", task["output"])
    if "error" in task:
        _fill_error(message, task["error"])
    if "metadata" in task:
        fill_struct(message.metadata, task["metadata"])


def _fill(message: Message, field: str, value: Any) -> None:
    """Set `field` and `field`_value: an object goes into the Struct, and every value into the Value.

    Of a value that is nested too deep for a message, the beginnings are shown, as of one that is too large.
    """
    if is_too_deep(value):
        value = preview(value, size_of(value))
    any_value: Message = getattr(message, f"{field}_value")
    fill_value(any_value, value)
    if isinstance(value, dict):
        getattr(message, field).CopyFrom(any_value.struct_value)


def _fill_error(message: Message, error: dict[str, Any]) -> None:
    parts = (str(error.get(key) or "") for key in ("title", "detail"))
    sentence = ": ".join(part for part in parts if part) or str(error.get("type"))
    place = error.get("instance")
    message.error = sayable(f"{sentence} (at {place})" if place else sentence)
    fill_value(message.error_details, error)


@cache
def _number(enum: str, name: str) -> int:
    return descriptors.pool().FindEnumTypeByName(f"{_PACKAGE}.{enum}").values_by_name[name].number
