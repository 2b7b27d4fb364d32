"""Get an output or input of a workflow execution or of one of its tasks, whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson

from stigmer_server import values
from stigmer_server.artifacts import PART_BYTES
from stigmer_server.errors import MissingError
from stigmer_server.kinds.workflow_execution import run_input
from stigmer_server.messages import Message, value_to_plain
from stigmer_server.resources import Resources


async def get_output(resources: Resources, request: Message) -> AsyncIterator[bytes]:
    """Yield it as JSON text, piece by piece.

    Raises:
        MissingError: There is no such execution or task, or none that the caller may see.
    """
    kind = resources.kinds["workflow_execution"]
    execution = kind.parse(await resources.fetch(kind, request.execution_id))
    kept, value = _wanted(execution, request)
    if kept is not None:
        async for part in values.parts(resources, request.execution_id, kept.key, expanded=True):
            yield part
        return
    text = await asyncio.to_thread(_text, value)
    for start in range(0, len(text), PART_BYTES):
        yield text[start : start + PART_BYTES]


def _wanted(execution: Message, request: Message) -> tuple[Message | None, Message | None]:
    """Return the large value that is wanted, or else the value itself, if it is there yet."""
    name = "input" if request.input else "output"
    if request.task_id:
        of = next((task for task in execution.status.tasks if task.task_id == request.task_id), None)
        if of is None:
            raise MissingError.of("Task", f"{request.task_id} of {request.execution_id}")
    else:
        of = execution.spec if request.input else execution.status
    if of.HasField(f"large_{name}"):
        return getattr(of, f"large_{name}"), None
    if of is execution.spec:
        return None, run_input(execution)
    return None, getattr(of, f"{name}_value") if of.HasField(f"{name}_value") else None


def _text(value: Message | None) -> bytes:
    return orjson.dumps(None if value is None else value_to_plain(value))
