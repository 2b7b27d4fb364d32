"""Talking MCP with a process: a message is a line of JSON.

Some servers greet people on stdout, which is not allowed; a few lines that are plainly no message are passed over.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from stigmer_sandbox import Pipes

from stigmer_runner.mcp.streams import Streams

_CHUNK = 64 * 1024
_MOST_NOISE = 100
_EXCERPT = 200


class Listener:
    """Reads messages from a process, and knows what it wrote that was none."""

    def __init__(self, *, most: int) -> None:
        """Let one message have `most` bytes."""
        self._most = most
        self._noisy = 0
        self.noise = ""
        """The first thing it wrote that is no message, shortened."""
        self.broken = ""
        """Why nothing more is read from it."""
        self.ended = False
        """Whether nothing more comes from it."""

    async def read(
        self, output: asyncio.StreamReader, messages: "MemoryObjectSendStream[SessionMessage | Exception]"
    ) -> None:
        """Give on every message until the output ends, or something is wrong with it."""
        waiting = bytearray()
        async with messages:
            while not self.broken and (chunk := await output.read(_CHUNK)):
                waiting += chunk
                if b"\n" in chunk:
                    *lines, rest = waiting.split(b"\n")
                    waiting = rest
                    for line in lines:
                        message = self._message(line)
                        if message is not None:
                            await messages.send(message)
                if len(waiting) > self._most:
                    self.broken = f"a message is larger than the {self._most} bytes that an answer may have"
            self.ended = True

    def _message(self, line: bytes | bytearray) -> SessionMessage | None:
        if self.broken or not line.strip():
            return None
        if len(line) > self._most:
            self.broken = f"a message is larger than the {self._most} bytes that an answer may have"
            return None
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            self._pass_over(line)
            return None

    def _pass_over(self, line: bytes | bytearray) -> None:
        shown = line[:_EXCERPT].decode("utf-8", "replace").strip()
        self.noise = self.noise or shown
        self._noisy += 1
        if line.lstrip().startswith(b"{"):
            self.broken = f"it wrote what is no message of the protocol: {shown}"
        elif self._noisy > _MOST_NOISE:
            self.broken = f"it writes other things than messages of the protocol: {self.noise}"


@asynccontextmanager
async def process_streams(pipes: Pipes, listener: Listener) -> AsyncGenerator[Streams]:
    """Connect to the MCP server that is a process."""
    heard, hearing = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    saying, said = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [
        asyncio.create_task(listener.read(pipes.output, heard)),
        asyncio.create_task(_write(said, pipes.input)),
    ]
    try:
        yield hearing, saying
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in (heard, hearing, saying, said):
            stream.close()


async def _write(messages: MemoryObjectReceiveStream[SessionMessage], pipe: asyncio.StreamWriter) -> None:
    # A server that has gone is noticed by the end of its output.
    try:
        async for message in messages:
            pipe.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await pipe.drain()
    except (BrokenPipeError, ConnectionResetError):
        async for _ in messages:
            pass
