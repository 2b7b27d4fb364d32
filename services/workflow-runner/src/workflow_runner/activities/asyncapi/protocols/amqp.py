"""AMQP 0-9-1: a queue gives each message once, and keeps it until the workflow has it.

The channel's binding says what the channel is. A queue is read and written by its name. A routing key is written to its
exchange, and read by a queue of the subscription's own, which is there for as long as the subscription is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from workflow_runner.activities.asyncapi.port import Feed, Inbound, MessageProtocol, Outbound, Route, Tools, gathered
from workflow_runner.activities.calls import CallFailedError

_KEPT_MILLISECONDS = 3_600_000
"""How long a subscription's own queue is kept while nobody reads it."""


class _Amqp:
    schemes: Mapping[str, tuple[bool, int]] = {"amqp": (False, 5672), "amqps": (True, 5671)}
    library = "aio_pika"
    extra = "amqp"

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        import aio_pika

        connection = await _connected(route, tools)
        try:
            async with asyncio.timeout(seconds):
                # The broker confirms what it has, and gives back what no queue would take.
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                exchange = await _exchange(route, channel)
                persistent = route.operation.get("deliveryMode", 2) == 2
                await exchange.publish(
                    aio_pika.Message(
                        message.body,
                        content_type=message.content_type,
                        headers=dict(message.headers),
                        delivery_mode=2 if persistent else 1,
                    ),
                    routing_key=_address(route),
                    mandatory=bool(route.operation.get("mandatory", _is_queue(route))),
                )
        except _errors() as error:
            raise _failed(route, error) from None
        finally:
            await connection.close()

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        connection = await _connected(route, tools)
        try:
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=most)
            if _is_queue(route):
                queue = await channel.declare_queue(_address(route), passive=True)
            else:
                arguments = {"x-expires": _KEPT_MILLISECONDS}
                queue = await channel.declare_queue(name, durable=True, arguments=arguments)
                await queue.bind(await _exchange(route, channel), routing_key=_address(route))
            return await _Deliveries(route, connection, queue, own=not _is_queue(route)).begun()
        except _errors() as error:
            await connection.close()
            raise _failed(route, error) from None


class _Deliveries:
    settles = True

    def __init__(self, route: Route, connection: Any, queue: Any, *, own: bool) -> None:
        self._route = route
        self._connection = connection
        self._queue = queue
        self._own = own
        self._came: asyncio.Queue[Any] = asyncio.Queue()
        self._open: deque[Any] = deque()
        """Taken and not settled."""
        self._tag = ""

    async def begun(self) -> _Deliveries:
        """Have the broker deliver."""
        self._tag = await self._queue.consume(self._came.put)
        return self

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        if self._connection.is_closed or self._queue.channel.is_closed:
            raise _failed(self._route, ConnectionError("the connection was lost"))
        taken = await gathered(self._came.get, most, seconds)
        if not taken and self._connection.is_closed:
            raise _failed(self._route, ConnectionError("the connection was lost"))
        self._open += taken
        return [_inbound(each) for each in taken]

    async def settle(self, done: int) -> None:
        try:
            for index in range(len(self._open)):
                message = self._open.popleft()
                await (message.ack() if index < done else message.reject(requeue=True))
        except _errors() as error:
            raise _failed(self._route, error) from None

    async def close(self, *, over: bool) -> None:
        if over and self._own and not self._connection.is_closed:
            await self._queue.cancel(self._tag)
            await self._queue.delete(if_unused=False, if_empty=False)
        await self._connection.close()


async def _connected(route: Route, tools: Tools) -> Any:
    import aio_pika

    address = await tools.address(route)
    try:
        return await aio_pika.connect(
            host=address,
            port=route.port,
            login=route.credentials.username or "guest",
            password=route.credentials.password or route.credentials.token or "guest",
            virtualhost=unquote(route.path.removeprefix("/")) or "/",
            ssl=route.tls,
            ssl_context=tools.context(route),
            timeout=tools.policy.connect_timeout,
        )
    except _errors() as error:
        raise _failed(route, error) from None


async def _exchange(route: Route, channel: Any) -> Any:
    exchange: Mapping[str, Any] = route.binding.get("exchange") or {}
    name = str(exchange.get("name", ""))
    if _is_queue(route) or name in ("", "default"):
        return channel.default_exchange
    return await channel.get_exchange(name, ensure=True)


def _is_queue(route: Route) -> bool:
    return route.binding.get("is", "queue" if "exchange" not in route.binding else "routingKey") == "queue"


def _address(route: Route) -> str:
    if _is_queue(route):
        queue: Mapping[str, Any] = route.binding.get("queue") or {}
        return str(queue.get("name") or route.channel)
    return route.channel


def _inbound(message: Any) -> Inbound:
    return Inbound(
        body=message.body,
        content_type=message.content_type or "",
        headers=dict(message.headers),
        correlation_id=message.correlation_id or "",
    )


def _errors() -> tuple[type[Exception], ...]:
    from aio_pika.exceptions import AMQPError
    from aiormq.exceptions import AMQPError as LowerError

    return (AMQPError, LowerError, OSError, RuntimeError)


def _failed(route: Route, error: Exception) -> CallFailedError:
    said = f"{route}: {error or type(error).__name__}"
    name = type(error).__name__
    if "Authentication" in name or "ACCESS_REFUSED" in said:
        return CallFailedError("authentication", said)
    if "NotFound" in name:
        return CallFailedError("communication", said, status=404)
    if "Precondition" in name or "Deliver" in name:
        return CallFailedError("communication", said, status=409)
    return CallFailedError("communication", said, status=503)


PROTOCOL: MessageProtocol = _Amqp()
