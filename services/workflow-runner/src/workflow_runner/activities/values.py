"""Values too large for a message: they go to the server, and come from it, in parts and compressed."""

import asyncio
import hashlib
import json
from typing import Any

from stigmer_protos import descriptors
from stigmer_runner import RUNTIME, StigmerServer
from temporalio import activity

from workflow_runner import names

LARGE_BYTES = 4 * 1024 * 1024
"""What a value may take as text to go in a message of ten MiB, where it may stand twice."""
_TRANSFER = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecutionTransferController"
_PART = "ai.stigmer.runtime.v1.PutValuePart"
_PART_BYTES = 1024 * 1024
_LEVEL = 3

Message = Any


class Values:
    """Large values of executions on the server. Everything here may be repeated: the same content is kept once."""

    def __init__(self, server: StigmerServer) -> None:
        self._server = server

    async def put(self, execution: str, text: bytes) -> Message:
        """Have a JSON text kept for an execution; return the LargeValue that names it.

        Raises:
            RpcError: The server is away, or does not take it.
        """
        key, kept = await asyncio.to_thread(_compressed, text)
        part: Message = descriptors.message_type(_PART)
        header = part()
        header.header.execution_id = execution
        header.header.value.key, header.header.value.bytes = key, len(text)
        pieces = (part(chunk=kept[start : start + _PART_BYTES]) for start in range(0, len(kept), _PART_BYTES))
        return await self._server.upload(RUNTIME, "putValue", [header, *pieces])

    async def get(self, execution: str, key: str) -> bytes:
        """Return the JSON text of a value that an execution has.

        Raises:
            RpcError: The server is away, or has no such value.
        """
        request = {"execution_id": execution, "key": key}
        parts = [part.chunk async for part in self._server.stream(RUNTIME, "getValue", request)]
        return await asyncio.to_thread(_expanded, b"".join(parts))

    async def output(self, execution: str) -> Any:
        """Return the whole output of an execution.

        Raises:
            RpcError: The server is away, or does not have it.
        """
        request = {"execution_id": execution}
        parts = [part.chunk async for part in self._server.stream(_TRANSFER, "getOutput", request)]
        return await asyncio.to_thread(json.loads, b"".join(parts))


def json_text(value: Any) -> bytes:
    """Return a value as the JSON text that is kept of it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def own_execution() -> str:
    """Return the id of the execution that the activity is for."""
    return execution_of(activity.info().workflow_id or "")


def execution_of(workflow_id: str) -> str:
    """Return the id of the execution that a Temporal workflow is a run of."""
    return workflow_id.removeprefix(names.DRIVEN).removeprefix(f"{names.WORKFLOW}/").partition("/")[0]


def _compressed(text: bytes) -> tuple[str, bytes]:
    import zstandard  # not before it is needed: most processes never meet a large value

    kept = zstandard.ZstdCompressor(level=_LEVEL).compress(text)
    return hashlib.sha256(kept).hexdigest(), kept


def _expanded(kept: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompress(kept)
