"""MQTT 3.1.1 and 5. A subscription is a session of the broker's, which keeps what comes while no runner listens."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workflow_runner.activities.asyncapi.port import Feed, Inbound, MessageProtocol, Outbound, Route, Tools, gathered
from workflow_runner.activities.calls import CallFailedError

if TYPE_CHECKING:
    import aiomqtt

_KEPT_SECONDS = 3600
"""How long a broker of MQTT 5 keeps a session that nobody is connected to."""
_MOST_QUEUED = 1000


class _Mqtt:
    schemes: Mapping[str, tuple[bool, int]] = {
        "mqtt": (False, 1883),
        "mqtt5": (False, 1883),
        "mqtts": (True, 8883),
        "secure-mqtt": (True, 8883),
    }
    library = "aiomqtt"
    extra = "mqtt"

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        import aiomqtt

        try:
            async with await _client(route, tools, f"stigmer-{secrets.token_hex(6)}", keep=False) as client:
                await client.publish(
                    route.channel,
                    message.body,
                    qos=_qos(route),
                    retain=bool(route.operation.get("retain", False)),
                    properties=_properties(message) if _is_5(route) else None,
                    timeout=seconds,
                )
        except aiomqtt.MqttError as error:
            raise _failed(route, error) from None

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        import aiomqtt

        client = await _client(route, tools, name, keep=True)
        try:
            await client.__aenter__()
            await client.subscribe(route.channel, qos=_qos(route))
        except aiomqtt.MqttError as error:
            raise _failed(route, error) from None
        return _Messages(route, tools, name, client)


class _Messages:
    settles = False

    def __init__(self, route: Route, tools: Tools, name: str, client: aiomqtt.Client) -> None:
        self._route = route
        self._tools = tools
        self._name = name
        self._client = client
        self._messages = aiter(client.messages)

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        import aiomqtt

        try:
            found = await gathered(self._next, most, seconds)
        except aiomqtt.MqttError as error:
            raise _failed(self._route, error) from None
        return [_inbound(each) for each in found]

    async def _next(self) -> aiomqtt.Message:
        return await anext(self._messages)

    async def settle(self, done: int) -> None:
        """The library has told the broker."""

    async def close(self, *, over: bool) -> None:
        """Disconnect; and when it is over, have the broker keep nothing and forget the session."""
        import aiomqtt

        with contextlib.suppress(aiomqtt.MqttError):
            if over:
                await self._client.unsubscribe(self._route.channel)
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)
        if over:
            with contextlib.suppress(aiomqtt.MqttError, CallFailedError):
                async with await _client(self._route, self._tools, self._name, keep=False):
                    pass


async def _client(route: Route, tools: Tools, name: str, *, keep: bool) -> aiomqtt.Client:
    import aiomqtt
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    more: dict[str, Any] = {}
    if _is_5(route):
        properties: Any = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = _KEPT_SECONDS if keep else 0
        more = {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": not keep, "properties": properties}
    else:
        more = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": not keep}
    return aiomqtt.Client(
        await tools.address(route),
        route.port,
        identifier=name,
        username=route.credentials.username or None,
        password=route.credentials.password or route.credentials.token or None,
        tls_context=tools.context(route),
        timeout=tools.policy.connect_timeout,
        max_queued_incoming_messages=_MOST_QUEUED,
        **more,
    )


def _is_5(route: Route) -> bool:
    return route.scheme == "mqtt5"


def _qos(route: Route) -> int:
    qos = route.operation.get("qos", 1)
    return qos if qos in (0, 1, 2) else 1


def _properties(message: Outbound) -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties: Any = Properties(PacketTypes.PUBLISH)
    properties.ContentType = message.content_type
    properties.UserProperty = list(message.headers.items())
    return properties


def _inbound(message: aiomqtt.Message) -> Inbound:
    properties: Any = message.properties
    payload: Any = message.payload
    body = payload if isinstance(payload, bytes) else str("" if payload is None else payload).encode()
    correlation: bytes = getattr(properties, "CorrelationData", b"") or b""
    return Inbound(
        body=body,
        content_type=getattr(properties, "ContentType", "") or "",
        headers={"topic": message.topic.value, **dict(getattr(properties, "UserProperty", ()))},
        correlation_id=correlation.decode("utf-8", "replace"),
    )


def _failed(route: Route, error: Exception) -> CallFailedError:
    said = str(error)
    if "authori" in said.lower() or "bad user name" in said.lower():
        return CallFailedError("authentication", f"{route}: {said}")
    return CallFailedError("communication", f"{route}: {said}", status=503)


PROTOCOL: MessageProtocol = _Mqtt()
