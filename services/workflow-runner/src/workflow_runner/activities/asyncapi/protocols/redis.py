"""Redis channels: messages go to those who listen; what comes while nobody does is gone. There are no headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_runner.activities.asyncapi.port import Feed, Inbound, MessageProtocol, Outbound, Route, Tools, gathered
from workflow_runner.activities.calls import CallFailedError


class _Redis:
    schemes: Mapping[str, tuple[bool, int]] = {
        "redis": (False, 6379),
        "rediss": (True, 6379),
        "secure-redis": (True, 6379),
    }
    library = "redis"
    extra = "redis"

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        from redis.exceptions import RedisError

        client = await _client(route, tools)
        try:
            await client.publish(route.channel, message.body)
        except (RedisError, OSError) as error:
            raise _failed(route, error) from None
        finally:
            await client.aclose()

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        from redis.exceptions import RedisError

        client = await _client(route, tools)
        listening = client.pubsub(ignore_subscribe_messages=True)
        try:
            await listening.subscribe(route.channel)
            # Confirms the subscription, which is no message.
            await listening.get_message(timeout=tools.policy.connect_timeout)
        except (RedisError, OSError) as error:
            await client.aclose()
            raise _failed(route, error) from None
        return _Messages(route, client, listening)


class _Messages:
    settles = False

    def __init__(self, route: Route, client: Any, listening: Any) -> None:
        self._route = route
        self._client = client
        self._listening = listening

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        from redis.exceptions import RedisError

        try:
            found = await gathered(self._next, most, seconds)
        except (RedisError, OSError) as error:
            raise _failed(self._route, error) from None
        return [Inbound(body=each["data"]) for each in found]

    async def _next(self) -> Any:
        while True:
            found = await self._listening.get_message(timeout=None)
            if found is not None:
                return found

    async def settle(self, done: int) -> None:
        """Nothing is kept for us."""

    async def close(self, *, over: bool) -> None:
        await self._listening.aclose()
        await self._client.aclose()


async def _client(route: Route, tools: Tools) -> Any:
    from redis.asyncio import Connection, ConnectionPool, Redis

    context = tools.context(route)

    class Checked(Connection):
        """Connects to the address that was checked."""

        def _connection_arguments(self) -> Any:
            return {"host": self.host, "port": self.port, **({"ssl": context} if context else {})}

    pool: Any = ConnectionPool(
        connection_class=Checked,
        host=await tools.address(route),
        port=route.port,
        db=int(route.path.strip("/") or 0) if route.path.strip("/").isdecimal() else 0,
        username=route.credentials.username or None,
        password=route.credentials.password or route.credentials.token or None,
        socket_connect_timeout=tools.policy.connect_timeout,
        # What is lost is told, and not made up for behind our back.
        retry=None,
        retry_on_error=[],
    )
    return Redis.from_pool(pool)


def _failed(route: Route, error: Exception) -> CallFailedError:
    from redis.exceptions import AuthenticationError, AuthorizationError

    if isinstance(error, (AuthenticationError, AuthorizationError)) or "NOAUTH" in str(error):
        return CallFailedError("authentication", f"{route}: {error}")
    return CallFailedError("communication", f"{route}: {error or type(error).__name__}", status=503)


PROTOCOL: MessageProtocol = _Redis()
