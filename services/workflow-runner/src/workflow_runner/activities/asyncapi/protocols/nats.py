"""NATS: messages go to those who listen; what comes while nobody does is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_runner.activities.asyncapi.port import Feed, Inbound, MessageProtocol, Outbound, Route, Tools, gathered
from workflow_runner.activities.calls import CallFailedError

_CONTENT_TYPE = "Content-Type"
_MOST_PENDING = 10_000


class _Nats:
    schemes: Mapping[str, tuple[bool, int]] = {"nats": (False, 4222), "nats-secure": (True, 4222), "tls": (True, 4222)}
    library = "nats"
    extra = "nats"

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        from nats.errors import Error

        client = await _connected(route, tools)
        try:
            # Servers of old take no headers, and refuse them.
            headers = {**message.headers, _CONTENT_TYPE: message.content_type}
            await client.publish(route.channel, message.body, headers=headers)
            await client.flush(max(1, int(seconds)))
        except (Error, OSError, ValueError) as error:
            raise _failed(route, error) from None
        finally:
            await client.close()

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        from nats.errors import Error

        client = await _connected(route, tools)
        try:
            queue = str(route.operation.get("queue", ""))
            subscription = await client.subscribe(route.channel, queue=queue, pending_msgs_limit=_MOST_PENDING)
            await client.flush()
        except (Error, OSError, ValueError) as error:
            await client.close()
            raise _failed(route, error) from None
        return _Messages(route, client, subscription)


class _Messages:
    settles = False

    def __init__(self, route: Route, client: Any, subscription: Any) -> None:
        self._route = route
        self._client = client
        self._subscription = subscription

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        from nats.errors import Error

        if self._client.is_closed:
            raise _failed(self._route, ConnectionError("the connection was lost"))
        try:
            found = await gathered(self._next, most, seconds)
        except (Error, OSError) as error:
            raise _failed(self._route, error) from None
        return [_inbound(each) for each in found]

    async def _next(self) -> Any:
        # Limits on time are the caller's.
        return await self._subscription.next_msg(timeout=None)

    async def settle(self, done: int) -> None:
        """Nothing is kept for us."""

    async def close(self, *, over: bool) -> None:
        await self._client.close()


async def _connected(route: Route, tools: Tools) -> Any:
    from nats.aio.client import Client
    from nats.errors import Error

    async def quiet(_: Exception) -> None:
        """What goes wrong is seen where it is waited for."""

    address = await tools.address(route)
    host = f"[{address}]" if ":" in address else address
    more: dict[str, Any] = {"tls": tools.context(route), "tls_hostname": route.host} if route.tls else {}
    client: Any = Client()
    try:
        await client.connect(
            f"{'tls' if route.tls else 'nats'}://{host}:{route.port}",
            user=route.credentials.username or None,
            password=route.credentials.password or None,
            token=route.credentials.token or None,
            # A server tells of others, which nobody has checked.
            allow_reconnect=False,
            connect_timeout=int(tools.policy.connect_timeout),
            error_cb=quiet,
            **more,
        )
        return client
    except (TimeoutError, Error, OSError) as error:
        # The library leaves the connection open of one that was refused.
        await client.close()
        transport = client._transport  # noqa: SLF001 - as above
        if transport is not None:
            transport.close()
        raise _failed(route, error) from None


def _inbound(message: Any) -> Inbound:
    headers: dict[str, str] = dict(message.headers or {})
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    return Inbound(body=message.data, content_type=kind, headers={**headers, "subject": message.subject})


def _failed(route: Route, error: Exception) -> CallFailedError:
    said = str(error) or type(error).__name__
    if "authori" in said.lower():
        return CallFailedError("authentication", f"{route}: {said}")
    return CallFailedError("communication", f"{route}: {said}", status=503)


PROTOCOL: MessageProtocol = _Nats()
