"""Large values at the peer: kept in memory as they come, each for its execution."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import zstandard
from stigmer_grpc import CallContext, Handler, InvalidArgumentError, NotFoundError
from stigmer_grpc.binding import Message
from stigmer_protos import descriptors

_PIECE = 1024 * 1024


class PeerValues:
    """It keeps to what stigmer-server promises: what comes is checked, and the same content is kept once."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        """Execution and key to the value, compressed."""
        self.puts = 0

    def handlers(self) -> dict[str, Handler]:
        """Return the methods of the runtime service."""
        return {"putValue": self._put, "getValue": self._get}

    def text(self, execution: str, key: str) -> bytes:
        """Return a value's JSON text."""
        found = self.kept.get((execution, key))
        if found is None:
            raise NotFoundError(f"{execution} has no value {key}")
        return zstandard.decompress(found)

    async def _put(self, requests: AsyncIterator[Message], _: CallContext) -> Message:
        self.puts += 1
        header = (await anext(requests)).header
        content = b"".join([part.chunk async for part in requests])
        if hashlib.sha256(content).hexdigest() != header.value.key:
            raise InvalidArgumentError("what came is something else")
        if len(zstandard.decompress(content)) != header.value.bytes:
            raise InvalidArgumentError("what came has another size")
        self.kept[header.execution_id, header.value.key] = content
        return header.value

    async def _get(self, request: Message, _: CallContext) -> AsyncIterator[Message]:
        self.text(request.execution_id, request.key)
        part: Any = descriptors.message_type("ai.stigmer.runtime.v1.ValuePart")
        content = self.kept[request.execution_id, request.key]
        for start in range(0, len(content), _PIECE):
            yield part(chunk=content[start : start + _PIECE])
