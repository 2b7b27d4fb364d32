"""Get the output or input of a workflow execution, whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson

from stigmer_server import parts, values
from stigmer_server.artifacts import PART_BYTES
from stigmer_server.kinds.workflow_execution import run_input
from stigmer_server.messages import Message, value_to_plain
from stigmer_server.resources import Resources


async def get_output(resources: Resources, request: Message) -> AsyncIterator[bytes]:
    """Yield it as JSON text, piece by piece.

    Raises:
        MissingError: There is no such execution, or none that the caller may see.
    """
    kind = resources.kinds["workflow_execution"]
    execution = kind.parse(parts.head(await resources.head(kind, request.execution_id)))
    owner, name = (execution.spec, "large_input") if request.input else (execution.status, "large_output")
    if owner.HasField(name):
        key = getattr(owner, name).key
        async for part in values.parts(resources, request.execution_id, key, expanded=True):
            yield part
        return
    text = await asyncio.to_thread(_input if request.input else _output, execution)
    for start in range(0, len(text), PART_BYTES):
        yield text[start : start + PART_BYTES]


def _input(execution: Message) -> bytes:
    return orjson.dumps(value_to_plain(run_input(execution)))


def _output(execution: Message) -> bytes:
    status = execution.status
    return orjson.dumps(value_to_plain(status.output_value) if status.HasField("output_value") else None)
