"""The way to one MCP server in one turn: which connection to use, and what to do when it has dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp_types import CallToolResult
from stigmer_sandbox import find_engine

from agent_runner.tools.connection import CallFailedError, Connection, NotSentError
from agent_runner.tools.connections import Place
from agent_runner.tools.port import ServerError, Transport
from agent_runner.tools.servers import Container, McpServer, Process, Web
from agent_runner.tools.tool import ToolFailedError
from agent_runner.tools.transports import ContainerTransport, HttpTransport, ProcessTransport, in_sandbox
from agent_runner.workspace.backend import SandboxBackend

if TYPE_CHECKING:
    from agent_runner.tools.toolbox import Toolbox

_ATTEMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A way to a server.

    Attributes:
        box: What the worker has.
        thread: The session's thread.
        server: The server, with its placeholders filled.
        backend: The session's workspace.
    """

    box: Toolbox
    thread: str
    server: McpServer
    backend: SandboxBackend | None

    async def connection(self) -> Connection:
        """A connection that works, as far as is known.

        Raises:
            ServerError: There is none.
            ResourceError: The server wants what this runner does not allow.
        """
        digest = hashlib.sha256(repr(self.server.transport).encode()).hexdigest()
        place = Place(thread=self.thread, server=self.server.name)
        return await self.box.connections.get(place, digest, self._transport)

    def calling(self, tool: str) -> Callable[[dict[str, Any]], Awaitable[CallToolResult]]:
        """What calls a tool."""

        async def call(arguments: dict[str, Any]) -> CallToolResult:
            return await self._call(tool, arguments)

        return call

    async def _call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """Call a tool, over a new connection when the one that was there had dropped before."""
        transport = self.server.transport
        seconds = transport.seconds if isinstance(transport, Web) else self.box.settings.seconds
        for _ in range(_ATTEMPTS):
            try:
                connection = await self.connection()
                return await connection.call(tool, arguments, seconds=seconds)
            except NotSentError:
                continue
            except CallFailedError as error:
                raise ToolFailedError(str(error)) from None
            except ServerError as error:
                raise ToolFailedError(f"{error}. The tool was not called.") from None
        raise ToolFailedError(f"MCP server {self.server.name!r} drops every connection. The tool was not called.")

    def _transport(self) -> Transport:
        settings = self.box.settings
        match self.server.transport:
            case Process() as process:
                if self.box.sandbox is None or self.backend is None:
                    raise ServerError(f"MCP server {self.server.name!r} is a program, and this runner has no sandbox")
                command = in_sandbox(
                    process,
                    workspace=self.backend.workspace.folder,
                    readable=settings.readable,
                    network=settings.network,
                    limits=settings.limits,
                )
                return ProcessTransport(self.box.sandbox, command, most=settings.most_bytes)
            case Container() as container:
                allowed = settings.allowed(self.server.name, container)
                program = str(settings.container_program or find_engine("docker", "podman"))
                return ContainerTransport(allowed, program, most=settings.most_bytes, limits=settings.limits)
            case Web() as web:
                return HttpTransport(web, self.box.outbound, most=settings.most_bytes)
            case None:
                raise ServerError(f"MCP server {self.server.name!r} does not say how it is reached")
