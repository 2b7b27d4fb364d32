"""Kafka: a topic is read from where the workflow has come to, so nothing is lost and nothing comes twice.

A subscription begins at the end of the topic, or where the group of the operation's binding last was. From then on its
positions are the workflow's, not the broker's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

from workflow_runner.activities.asyncapi.port import Feed, Inbound, MessageProtocol, Outbound, Route, Tools, named
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.peers import reachable

_MECHANISMS = {"plain": "PLAIN", "scramSha256": "SCRAM-SHA-256", "scramSha512": "SCRAM-SHA-512"}
_CONTENT_TYPE = "content-type"
_tools: ContextVar[Tools] = ContextVar("tools")


class _Kafka:
    schemes: Mapping[str, tuple[bool, int]] = {"kafka": (False, 9092), "kafka-secure": (True, 9093)}
    library = "aiokafka"
    extra = "kafka"

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        import aiokafka
        from aiokafka.errors import KafkaError

        producer: Any = aiokafka.AIOKafkaProducer(
            **_connection(route, tools), acks="all", max_request_size=route.most_bytes
        )
        headers = [(name, value.encode()) for name, value in message.headers.items()]
        try:
            async with asyncio.timeout(seconds):
                await producer.start()
                await producer.send_and_wait(
                    route.channel,
                    message.body,
                    key=None if message.key is None else message.key.encode(),
                    headers=[*headers, (_CONTENT_TYPE, message.content_type.encode())],
                )
        except (KafkaError, OSError) as error:
            raise _failed(route, error) from None
        finally:
            await producer.stop()

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        import aiokafka
        from aiokafka.errors import KafkaError

        consumer: Any = aiokafka.AIOKafkaConsumer(
            **_connection(route, tools),
            group_id=_group(route),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_bytes=route.most_bytes,
        )
        try:
            async with asyncio.timeout(tools.policy.connect_timeout):
                await consumer.start()
                return _Records(route, consumer, await _begun(route, consumer, position))
        except (KafkaError, OSError, TimeoutError) as error:
            await consumer.stop()
            raise _failed(route, error) from None
        except BaseException:
            await consumer.stop()
            raise


class _Records:
    settles = False

    def __init__(self, route: Route, consumer: Any, offsets: dict[str, int]) -> None:
        self._route = route
        self._consumer = consumer
        self._offsets = offsets

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        from aiokafka.errors import KafkaError

        try:
            found = await self._consumer.getmany(timeout_ms=int(seconds * 1000), max_records=most)
        except (KafkaError, OSError) as error:
            raise _failed(self._route, error) from None
        records = sorted((each for part in found.values() for each in part), key=lambda each: each.timestamp)
        return [self._inbound(each) for each in records]

    def _inbound(self, record: Any) -> Inbound:
        self._offsets = {**self._offsets, str(record.partition): record.offset + 1}
        headers: dict[str, Any] = dict(record.headers or ())
        if record.key is not None:
            headers.setdefault("key", record.key)
        kind = headers.get(_CONTENT_TYPE) or b""
        return Inbound(
            body=record.value or b"",
            content_type=kind.decode("utf-8", "replace"),
            headers=headers,
            position=self._offsets,
        )

    async def settle(self, done: int) -> None:
        """The positions are the workflow's."""

    async def close(self, *, over: bool) -> None:
        await self._consumer.stop()


async def _begun(route: Route, consumer: Any, position: Any) -> dict[str, int]:
    """Have the consumer begin at `position`, or at the beginning of a subscription; return where that is."""
    from aiokafka import TopicPartition

    await consumer._client.force_metadata_update()  # noqa: SLF001 - there is no other way to learn of partitions
    found = consumer.partitions_for_topic(route.channel)
    if not found:
        consumer._client.add_topic(route.channel)  # noqa: SLF001 - as above
        await consumer._client.force_metadata_update()  # noqa: SLF001 - as above
        found = consumer.partitions_for_topic(route.channel)
    if not found:
        raise CallFailedError("configuration", f"{route}: the broker has no such topic")
    partitions = [TopicPartition(route.channel, number) for number in sorted(found)]
    consumer.assign(partitions)
    offsets: dict[str, int] = {}
    known: Mapping[str, int] = position or {}
    for partition in partitions:
        place = known.get(str(partition.partition))
        if place is None:
            place = await consumer.position(partition)
        consumer.seek(partition, place)
        offsets[str(partition.partition)] = place
    return offsets


def _group(route: Route) -> str | None:
    given: Any = route.operation.get("groupId")
    if isinstance(given, dict):
        # A schema of what a group may be called, of which one with a single value says what it is called.
        schema: Mapping[str, Any] = cast("Any", given)
        allowed: list[Any] = [schema["const"]] if "const" in schema else list(schema.get("enum") or ())
        given = allowed[0] if len(allowed) == 1 else None
    return str(given) if given else None


def _connection(route: Route, tools: Tools) -> dict[str, Any]:
    _guard()
    _tools.set(tools)
    known, tls = route.credentials, route.tls
    more: dict[str, Any] = {"security_protocol": "SSL" if tls else "PLAINTEXT"}
    if known.username:
        more = {
            "security_protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
            "sasl_mechanism": _MECHANISMS.get(known.mechanism, "PLAIN"),
            "sasl_plain_username": known.username,
            "sasl_plain_password": known.password,
        }
    if tls:
        more["ssl_context"] = tools.trust()
    milliseconds = int(tools.policy.connect_timeout * 1000)
    return {"bootstrap_servers": route.authority, "request_timeout_ms": max(milliseconds, 1000), **more}


@cache
def _guard() -> None:
    """Have the library connect to checked addresses only: brokers tell of others, and any of them may be anywhere."""
    import aiokafka.client

    module: Any = aiokafka.client
    create = module.create_conn

    async def checked(host: str, port: int, *, ssl_context: ssl.SSLContext | None = None, **more: Any) -> Any:
        tools = _tools.get()
        address = await reachable(tools.policy, host, port)
        context = None if ssl_context is None else named(tools.trust(), host)
        return await create(address, port, ssl_context=context, **more)

    module.create_conn = checked


def _failed(route: Route, error: Exception) -> CallFailedError:
    name = type(error).__name__
    if "Authentication" in name:
        return CallFailedError("authentication", f"{route}: {error or name}")
    if "Authorization" in name:
        return CallFailedError("authorization", f"{route}: {error or name}")
    return CallFailedError("communication", f"{route}: {error or name}", status=503)


PROTOCOL: MessageProtocol = _Kafka()
