"""Brokers for tests: small servers that speak the real protocols over real sockets, as far as our calls go."""

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pamqp import body, commands, frame, header
from websockets.asyncio.server import ServerConnection, serve


@dataclass
class Broker:
    """What a broker was sent, and how many listen."""

    port: int = 0
    received: list[Any] = field(default_factory=list[Any])
    listeners: int = 0
    ended: int = 0
    """Subscriptions that were ended in order."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    send: Callable[[Any], Awaitable[None]] | None = None
    """Sends something to all who listen."""
    cut: Callable[[], Awaitable[None]] = field(default=lambda: asyncio.sleep(0), repr=False)
    """Breaks every connection."""
    seen: dict[str, Any] = field(default_factory=dict[str, Any])
    """What else is worth knowing: who came, with what."""

    async def until(self, holds: Callable[["Broker"], bool]) -> None:
        """Return once `holds` is true of this; at most half a minute."""
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: holds(self))

    async def note(self, **changes: Any) -> None:
        """Change this, and tell who waits."""
        async with self.changed:
            for name, value in changes.items():
                setattr(self, name, value)
            self.changed.notify_all()

    async def say(self, *messages: Any) -> None:
        """Send messages once somebody listens."""
        await self.until(lambda seen: seen.listeners > 0 and seen.send is not None)
        for message in messages:
            if self.send is not None:
                await self.send(message)


@contextlib.asynccontextmanager
async def websocket_broker(context: ssl.SSLContext | None = None) -> AsyncGenerator[Broker]:
    """A WebSocket server that keeps what it gets."""
    broker = Broker()
    connections: set[ServerConnection] = set()

    async def send(message: Any) -> None:
        for connection in list(connections):
            await connection.send(json.dumps(message))

    async def handle(connection: ServerConnection) -> None:
        connections.add(connection)
        request: Any = connection.request
        await broker.note(listeners=broker.listeners + 1, seen={"path": request.path, **request.headers})
        try:
            async for message in connection:
                broker.received.append(json.loads(message))
                await broker.note()
        finally:
            connections.discard(connection)
            await broker.note(listeners=broker.listeners - 1, ended=broker.ended + 1)

    async with serve(handle, "127.0.0.1", 0, ssl=context) as server:
        broker.port = next(iter(server.sockets)).getsockname()[1]
        broker.send = send
        yield broker


@contextlib.asynccontextmanager
async def nats_broker(*, token: str = "") -> AsyncGenerator[Broker]:
    """A NATS server of one connection's needs: CONNECT, SUB, UNSUB, PUB, HPUB, PING."""
    broker = Broker()
    subscriptions: dict[tuple[int, str], tuple[asyncio.StreamWriter, str]] = {}

    async def deliver(subject: str, headers: bytes, body: bytes) -> None:
        for (_, sid), (writer, wanted) in list(subscriptions.items()):
            if wanted != subject:
                continue
            size = len(headers) + len(body)
            head = f"HMSG {subject} {sid} {len(headers)} {size}" if headers else f"MSG {subject} {sid} {size}"
            writer.write(head.encode() + b"\r\n" + headers + body + b"\r\n")
            await writer.drain()

    async def send(message: Any) -> None:
        for subject in {wanted for _, wanted in subscriptions.values()}:
            await deliver(subject, b"", json.dumps(message).encode())

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asks = {"server_id": "test", "version": "2.10.0", "headers": True, "max_payload": 1048576, "proto": 1}
        writer.write(b"INFO " + json.dumps({**asks, "auth_required": bool(token)}).encode() + b"\r\n")
        try:
            while line := (await reader.readline()).decode().strip():
                verb, _, rest = line.partition(" ")
                words = rest.split()
                match verb:
                    case "CONNECT":
                        said = json.loads(rest)
                        if token and said.get("auth_token") != token:
                            writer.write(b"-ERR 'Authorization Violation'\r\n")
                            return
                        await broker.note(seen=said)
                    case "PING":
                        writer.write(b"PONG\r\n")
                    case "SUB":
                        subscriptions[id(writer), words[-1]] = (writer, words[0])
                        await broker.note(listeners=len(subscriptions))
                    case "UNSUB":
                        subscriptions.pop((id(writer), words[0]), None)
                    case "PUB" | "HPUB":
                        content = await reader.readexactly(int(words[-1]) + 2)
                        heading = int(words[-2]) if verb == "HPUB" else 0
                        broker.received.append((words[0], content[:heading].decode(), json.loads(content[heading:])))
                        await broker.note()
                        await deliver(words[0], content[:heading], content[heading:-2])
                    case _:
                        pass
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            for key in [key for key in subscriptions if key[0] == id(writer)]:
                del subscriptions[key]
            await broker.note(listeners=len(subscriptions), ended=broker.ended + 1)
            writer.close()

    async with _listening(handle, broker):
        broker.send = send
        yield broker


@contextlib.asynccontextmanager
async def redis_broker() -> AsyncGenerator[Broker]:
    """A Redis server's channels: SUBSCRIBE and PUBLISH, in versions 2 and 3 of its protocol."""
    broker = Broker()
    subscriptions: dict[asyncio.StreamWriter, tuple[bytes, bytes]] = {}

    async def deliver(channel: bytes, content: bytes) -> int:
        wanting = [(writer, kind) for writer, (wanted, kind) in subscriptions.items() if wanted == channel]
        for writer, kind in wanting:
            writer.write(kind + b"3\r\n" + _bulks(b"message", channel, content))
            await writer.drain()
        return len(wanting)

    async def send(message: Any) -> None:
        for channel in {wanted for wanted, _ in subscriptions.values()}:
            await deliver(channel, json.dumps(message).encode())

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = b"*"
        try:
            while line := await reader.readline():
                words = [await _bulk(reader) for _ in range(int(line[1:]))]
                match words[0].upper():
                    case b"HELLO":
                        kind = b">"
                        writer.write(b"%1\r\n" + _bulks(b"proto") + b":3\r\n")
                    case b"SUBSCRIBE":
                        subscriptions[writer] = (words[1], kind)
                        writer.write(kind + b"3\r\n" + _bulks(b"subscribe", words[1]) + b":1\r\n")
                        await broker.note(listeners=len(subscriptions))
                    case b"PUBLISH":
                        broker.received.append((words[1].decode(), json.loads(words[2])))
                        await broker.note()
                        writer.write(b":%d\r\n" % await deliver(words[1], words[2]))
                    case _:
                        writer.write(b"+OK\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            subscriptions.pop(writer, None)
            await broker.note(listeners=len(subscriptions), ended=broker.ended + 1)
            writer.close()

    async with _listening(handle, broker):
        broker.send = send
        yield broker


async def _bulk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline())[1:])
    return (await reader.readexactly(size + 2))[:-2]


def _bulks(*texts: bytes) -> bytes:
    return b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)


@contextlib.asynccontextmanager
async def mqtt_broker(*, password: str = "") -> AsyncGenerator[Broker]:
    """An MQTT 3.1.1 server: sessions that are kept, exact topics, QoS 0 and 1."""
    broker = Broker()
    sessions: dict[str, dict[str, Any]] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: dict[str, Any] = {}
        try:
            while True:
                kind, flags, body = await _packet(reader)
                if kind == _CONNECT:
                    session = _connected(body, sessions)
                    refused = bool(password) and session["password"] != password
                    present = 1 if session["topics"] else 0
                    writer.write(bytes([0x20, 2, present, 5 if refused else 0]))
                    session["writer"] = writer
                    await broker.note(seen={key: session[key] for key in ("id", "user", "password", "clean")})
                    waiting, session["waiting"] = session["waiting"], []
                    for topic, payload in waiting:
                        _deliver(session, topic, payload)
                elif kind == _SUBSCRIBE:
                    length = int.from_bytes(body[2:4], "big")
                    session["topics"].append(body[4 : 4 + length].decode())
                    writer.write(bytes([0x90, 3]) + body[:2] + bytes([body[-1]]))
                    await broker.note(listeners=_listeners(sessions))
                elif kind == _UNSUBSCRIBE:
                    session["topics"].clear()
                    writer.write(bytes([0xB0, 2]) + body[:2])
                    await broker.note(listeners=_listeners(sessions), ended=broker.ended + 1)
                elif kind == _PUBLISH:
                    topic, payload, number = _published(flags, body)
                    if number:
                        writer.write(bytes([0x40, 2]) + number)
                    broker.received.append((topic, bool(flags & 1), json.loads(payload)))
                    _spread(sessions, topic, payload)
                    await broker.note()
                elif kind == _PING:
                    writer.write(bytes([0xD0, 0]))
                elif kind == _DISCONNECT:
                    return
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            if session.get("writer") is writer:
                session["writer"] = None
            writer.close()

    async def send(message: Any) -> None:
        topics = {topic for session in sessions.values() for topic in session["topics"]}
        for topic in topics:
            _spread(sessions, topic, json.dumps(message).encode())

    async def cut() -> None:
        for session in sessions.values():
            if session["writer"] is not None:
                session["writer"].close()

    async with _listening(handle, broker):
        broker.send, broker.cut = send, cut
        yield broker


_CONNECT, _PUBLISH, _SUBSCRIBE, _UNSUBSCRIBE, _PING, _DISCONNECT = 1, 3, 8, 10, 12, 14


async def _packet(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first >> 4, first & 15, await reader.readexactly(length)


def _connected(body: bytes, sessions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    flags = body[7]
    texts: list[str] = []
    at = 10
    for present in (True, flags & 0x80, flags & 0x40):
        if present:
            size = int.from_bytes(body[at : at + 2], "big")
            texts.append(body[at + 2 : at + 2 + size].decode())
            at += 2 + size
        else:
            texts.append("")
    name, user, password = texts
    clean = bool(flags & 2)
    if clean:
        sessions.pop(name, None)
    session = sessions.setdefault(name, {"topics": [], "waiting": [], "writer": None, "number": 0})
    session.update(id=name, user=user, password=password, clean=clean)
    return session


def _published(flags: int, body: bytes) -> tuple[str, bytes, bytes]:
    size = int.from_bytes(body[:2], "big")
    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
    return (topic, rest[2:], rest[:2]) if flags & 6 else (topic, rest, b"")


def _spread(sessions: dict[str, dict[str, Any]], topic: str, payload: bytes) -> None:
    for session in sessions.values():
        if topic in session["topics"]:
            _deliver(session, topic, payload)


def _deliver(session: dict[str, Any], topic: str, payload: bytes) -> None:
    writer = session["writer"]
    if writer is None or writer.is_closing():
        session["waiting"].append((topic, payload))
        return
    session["number"] = session["number"] % 65535 + 1
    body = len(topic).to_bytes(2, "big") + topic.encode() + session["number"].to_bytes(2, "big") + payload
    size = bytearray()
    rest = len(body)
    while True:
        rest, byte = divmod(rest, 128)
        size.append(byte | (128 if rest else 0))
        if not rest:
            break
    writer.write(bytes([0x32]) + bytes(size) + body)


def _listeners(sessions: dict[str, dict[str, Any]]) -> int:
    return sum(len(session["topics"]) for session in sessions.values())


@contextlib.asynccontextmanager
async def amqp_broker() -> AsyncGenerator[Broker]:
    """An AMQP 0-9-1 server with one queue, `pets`: confirms, prefetch, acknowledgements, and messages that go back."""
    broker = Broker()
    queue: deque[tuple[bytes, Any]] = deque()
    readers: list[_Reader] = []

    async def deliver() -> None:
        for reader in readers:
            while queue and len(reader.open) < reader.prefetch:
                reader.deliver(*queue.popleft())
            await reader.writer.drain()

    async def send(message: Any) -> None:
        queue.append((json.dumps(message).encode(), commands.Basic.Properties(content_type="application/json")))
        await deliver()

    async def handle(stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader = _Reader(writer)
        published: list[Any] = []
        try:
            await stream.readexactly(8)
            reader.say(0, commands.Connection.Start(mechanisms="PLAIN", server_properties=_CAPABILITIES))
            while True:
                channel, given = await _amqp_frame(stream)
                answer = _amqp_answer(given)
                if answer is not None:
                    reader.say(channel, answer)
                match given:
                    case commands.Connection.Close():
                        return
                    case commands.Basic.Qos():
                        reader.prefetch = given.prefetch_count
                    case commands.Basic.Consume():
                        reader.tag, reader.channel = given.consumer_tag, channel
                        reader.say(channel, commands.Basic.ConsumeOk(given.consumer_tag))
                        readers.append(reader)
                        await broker.note(listeners=len(readers))
                        await deliver()
                    case commands.Basic.Ack():
                        reader.open.pop(given.delivery_tag or 0)
                        await deliver()
                    case commands.Basic.Reject():
                        queue.appendleft(reader.open.pop(given.delivery_tag or 0))
                    case commands.Basic.Publish() | header.ContentHeader():
                        published.append(given)
                    case body.ContentBody():
                        reader.published += 1
                        reader.say(channel, commands.Basic.Ack(reader.published))
                        broker.received.append((published[0].routing_key, json.loads(given.value)))
                        queue.append((given.value, published[1].properties))
                        published.clear()
                        await broker.note()
                        await deliver()
                    case _:
                        pass
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            queue.extendleft(reversed([reader.open[tag] for tag in sorted(reader.open)]))
            if reader in readers:
                readers.remove(reader)
            await broker.note(listeners=len(readers), ended=broker.ended + 1, seen={"left": [*queue]})
            writer.close()

    async with _listening(handle, broker):
        broker.send = send
        yield broker


_CAPABILITIES: dict[str, Any] = {"capabilities": {"publisher_confirms": True, "basic.nack": True}}


class _Reader:
    """One connection of an AMQP client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.prefetch = 0
        self.tag = ""
        self.channel = 1
        self.open: dict[int, tuple[bytes, Any]] = {}
        self.published = 0
        self._delivered = 0

    def say(self, channel: int, what: Any) -> None:
        self.writer.write(frame.marshal(what, channel))

    def deliver(self, content: bytes, properties: Any) -> None:
        self._delivered += 1
        self.open[self._delivered] = (content, properties)
        self.say(self.channel, commands.Basic.Deliver(self.tag, self._delivered, exchange="", routing_key="pets"))
        self.say(self.channel, header.ContentHeader(0, len(content), properties))
        self.say(self.channel, body.ContentBody(content))


async def _amqp_frame(stream: asyncio.StreamReader) -> tuple[int, Any]:
    start = await stream.readexactly(7)
    rest = await stream.readexactly(int.from_bytes(start[3:7], "big") + 1)
    _, channel, given = frame.unmarshal(start + rest)
    return channel, given


def _amqp_answer(given: Any) -> Any:
    match given:
        case commands.Connection.StartOk():
            return commands.Connection.Tune(channel_max=100, frame_max=131072, heartbeat=0)
        case commands.Connection.Open():
            return commands.Connection.OpenOk()
        case commands.Connection.Close():
            return commands.Connection.CloseOk()
        case commands.Channel.Open():
            return commands.Channel.OpenOk()
        case commands.Channel.Close():
            return commands.Channel.CloseOk()
        case commands.Confirm.Select():
            return commands.Confirm.SelectOk()
        case commands.Queue.Declare():
            return commands.Queue.DeclareOk(given.queue, 0, 0)
        case commands.Basic.Qos():
            return commands.Basic.QosOk()
        case commands.Basic.Cancel():
            return commands.Basic.CancelOk(given.consumer_tag)
        case _:
            return None


@contextlib.asynccontextmanager
async def _listening(handle: Any, broker: Broker) -> AsyncGenerator[None]:
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(handle(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
