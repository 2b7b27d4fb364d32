"""One MCP server, connected: a task of its own owns the connection from its beginning to its end.

The library's connections must be closed by the task that made them, and turns come and go; so others only borrow
them, and a connection that drops is noticed by whoever uses it next.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    Implementation,
    PaginatedRequestParams,
    Tool,
)
from pydantic import ValidationError

from agent_runner.tools.port import ServerError, Transport

if TYPE_CHECKING:
    from stigmer_runner.mcp import Streams

_CLIENT = Implementation(name="stigmer", version="1")
_MOST_PAGES = 100
_CLOSE_SECONDS = 10.0


class CallFailedError(Exception):
    """A call gave no result; says why, for the model."""


class NotSentError(Exception):
    """The connection was no more when the call was to be made: it can be made over another one."""


class Connection:
    """A connection; made by `open`, and to be closed."""

    def __init__(self, server: str, transport: Transport) -> None:
        """Connect to the server of that name."""
        self._server = server
        self._transport = transport
        self._session: ClientSession | None = None
        self._ready: asyncio.Future[tuple[Tool, ...]] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._dropped = False
        self._task = asyncio.create_task(self._own())
        self.tools: tuple[Tool, ...] = ()
        """What the server offered when the connection was made."""
        self.in_flight = 0
        self.used_at = time.monotonic()

    @classmethod
    async def open(cls, server: str, transport: Transport, *, seconds: float) -> Connection:
        """Connect, greet and ask for the tools, within some seconds.

        Raises:
            ServerError: This cannot be done.
        """
        connection = cls(server, transport)
        try:
            async with asyncio.timeout(seconds):
                connection.tools = await asyncio.shield(connection._ready)
        except TimeoutError:
            await connection.close()
            raise ServerError(f"MCP server {server!r} did not answer within {seconds:g} s") from None
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def ended(self) -> bool:
        """Whether the connection is known to be no more."""
        return self._dropped or self._task.done() or self._transport.gone

    async def call(self, tool: str, arguments: dict[str, Any], *, seconds: float) -> CallToolResult:
        """Call a tool.

        Raises:
            CallFailedError: There is no result; whether the call took effect may be unknown.
            NotSentError: The connection had gone before.
        """
        session = self._session
        if session is None or self.ended:
            raise NotSentError
        self.in_flight += 1
        try:
            async with asyncio.timeout(seconds):
                result = await session.call_tool(tool, arguments)
        except TimeoutError:
            # One that hangs is begun anew, unless others still wait for it.
            self._dropped = self.in_flight == 1
            raise CallFailedError(
                f"MCP server {self._server!r} gave no answer within {seconds:g} s. Whether the call took effect is "
                "not known."
            ) from None
        except MCPError as error:
            raise self._failed(error) from None
        except (ValidationError, ValueError, RuntimeError) as error:
            raise CallFailedError(f"MCP server {self._server!r} answered not as the protocol says: {error}") from None
        finally:
            self.in_flight -= 1
            self.used_at = time.monotonic()
        assert isinstance(result, CallToolResult)  # noqa: S101 - nothing else was allowed
        return result

    def _failed(self, error: MCPError) -> Exception:
        why = self._transport.failure
        if self._transport.forgotten:
            return NotSentError()
        if error.code == CONNECTION_CLOSED or why is not None:
            self._dropped = True
            reason = f": it {why}" if why and error.code == CONNECTION_CLOSED else f": {why}" if why else ""
            return CallFailedError(
                f"The connection to MCP server {self._server!r} dropped during the call{reason}. Whether the call "
                "took effect is not known; it was not made again."
            )
        return CallFailedError(f"MCP server {self._server!r} answered with error {error.code}: {error.error.message}")

    async def close(self) -> None:
        """Disconnect; nothing of the connection is left afterwards."""
        self._leave.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(self._settled())
        self._task.cancel()
        await self._settled()

    async def _settled(self) -> None:
        await asyncio.gather(self._task, return_exceptions=True)

    async def _own(self) -> None:
        failure = ServerError(f"MCP server {self._server!r} cannot be used")
        try:
            ended = await self._transport.serve(self._talk)
            failure = ServerError(f"MCP server {self._server!r} {ended}")
        except ServerError as error:
            failure = ServerError(f"MCP server {self._server!r} {error}")
        except Exception as error:  # noqa: BLE001 - the library raises groups of anything; whoever waits is told
            failure = ServerError(f"MCP server {self._server!r} cannot be talked with: {_innermost(error)}")
        finally:
            self._session = None
            if not self._ready.done():
                self._ready.set_exception(self._better(failure))
                # Somebody who gave up meanwhile does not ask any more.
                self._ready.exception()

    def _better(self, failure: ServerError) -> ServerError:
        """What the transport knows, where that is more than what came out of the library."""
        known = self._transport.failure
        return ServerError(f"MCP server {self._server!r}: {known}") if known is not None else failure

    async def _talk(self, streams: Streams) -> None:
        async with ClientSession(*streams, client_info=_CLIENT) as session:
            try:
                tools = await _greeted(session)
            except MCPError as error:
                if error.code == CONNECTION_CLOSED:
                    return  # why it ended is the transport's to say
                raise
            self._session = session
            if not self._ready.done():
                self._ready.set_result(tools)
            await self._leave.wait()


async def _greeted(session: ClientSession) -> tuple[Tool, ...]:
    try:
        await session.initialize()
    except MCPError as error:
        if error.code != UNSUPPORTED_PROTOCOL_VERSION:
            raise
        # A server that speaks newer versions alone, which begin without a handshake.
        await session.discover()
    if session.server_capabilities is None or session.server_capabilities.tools is None:
        return ()
    page = await session.list_tools()
    tools = list(page.tools)
    for _ in range(_MOST_PAGES):
        if page.next_cursor is None:
            return tuple(tools)
        page = await session.list_tools(params=PaginatedRequestParams(cursor=page.next_cursor))
        tools += page.tools
    raise ServerError(f"lists more than {_MOST_PAGES} pages of tools")


def _innermost(error: Any) -> BaseException:
    while inner := getattr(error, "exceptions", ()):
        error = inner[0]
    return error
