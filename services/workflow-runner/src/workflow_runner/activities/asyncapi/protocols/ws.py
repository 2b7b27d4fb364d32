"""WebSocket: a message is what one frame carries. There are no headers, and what comes while nobody listens is gone."""

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from workflow_runner.activities.asyncapi.port import Feed, Inbound, MessageProtocol, Outbound, Route, Tools, gathered
from workflow_runner.activities.calls import CallFailedError

_BROKEN = (ConnectionClosed, InvalidHandshake, InvalidURI, OSError, EOFError)
_QUEUE = 256


class _WebSocket:
    schemes: Mapping[str, tuple[bool, int]] = {"ws": (False, 80), "wss": (True, 443)}
    library = "websockets"
    extra = ""

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        try:
            async with _connected(route, tools, seconds) as connection:
                await connection.send(_frame(message))
        except _BROKEN as error:
            raise _failed(route, error) from None

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        try:
            return _Frames(route, await _connect(route, tools, tools.policy.connect_timeout))
        except _BROKEN as error:
            raise _failed(route, error) from None


class _Frames:
    settles = False

    def __init__(self, route: Route, connection: ClientConnection) -> None:
        self._route = route
        self._connection = connection

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        try:
            frames = await gathered(self._connection.recv, most, seconds)
        except ConnectionClosed as error:
            raise _failed(self._route, error) from None
        return [Inbound(body=each.encode() if isinstance(each, str) else each) for each in frames]

    async def settle(self, done: int) -> None:
        """Nothing is kept for us."""

    async def close(self, *, over: bool) -> None:
        await self._connection.close()


@asynccontextmanager
async def _connected(route: Route, tools: Tools, seconds: float) -> AsyncGenerator[ClientConnection]:
    connection = await _connect(route, tools, seconds)
    try:
        yield connection
    finally:
        await connection.close()


async def _connect(route: Route, tools: Tools, seconds: float) -> ClientConnection:
    context: ssl.SSLContext | None = tools.context(route)
    return await connect(
        route.url("ws"),
        host=await tools.address(route),
        port=route.port,
        ssl=context,
        proxy=None,
        additional_headers=dict(route.headers),
        open_timeout=seconds,
        max_size=route.most_bytes,
        max_queue=_QUEUE,
    )


def _frame(message: Outbound) -> str | bytes:
    try:
        return message.body.decode()
    except UnicodeDecodeError:
        return message.body


def _failed(route: Route, error: Exception) -> CallFailedError:
    status = getattr(getattr(error, "response", None), "status_code", 503)
    return CallFailedError("communication", f"{route}: {error or type(error).__name__}", status=status)


PROTOCOL: MessageProtocol = _WebSocket()
