"""Bad requests by the thousand, made from the descriptors: every one is refused for what it is, and nothing is stored.

Three sorts: messages of the right type with random content; bytes that are no message at all, or only the beginning
of one; and sound resources with something odd deep inside, which go as dry runs because some of them are still sound.
STIGMER_FUZZ_REQUESTS says how many requests every service gets; 10,000 take some minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stigmer_grpc import Channel, NotFoundError, RpcError, StatusCode, connect
from stigmer_protos import descriptors

from stigmer_server.testing import Api, manifest, serve, settled

REQUESTS = int(os.environ.get("STIGMER_FUZZ_REQUESTS", "100"))
BATCH = 25
DEEPEST = 5
FAULTS = {StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.DATA_LOSS}
"""What a server may never answer to a request, however bad."""
EVERY_CHECK: list[HealthCheck] = list(HealthCheck)  # type: ignore[assignment] # its metaclass has no types
DRY_RUN = (("x-stigmer-dry-run", "true"),)

ODD_TEXT = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "a\0b",
        "\x1b[31m",
        "\u202e",
        "../../etc/passwd",
        "é" * 300,
        "x" * 5000,
        "%s%n",
        "'; DROP TABLE",
        "-",
    ]
)
TEXT = st.one_of(ODD_TEXT, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.from_regex(r"[a-z]{1,8}"))
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.one_of(st.integers(0, 60), st.integers(-(2**31), 2**31 - 1)),
}


class Maker:
    """Fills messages with what a strategy draws."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw
        # One draw of randomness a request: a draw for every field would cost more than the call.
        self.chance = random.Random(self._draw(st.integers(0, 2**64 - 1)))

    def message(self, descriptor: Any, depth: int = 0) -> Any:
        made: Any = descriptors.message_type(descriptor.full_name)()
        for field in descriptor.fields:
            if self.chance.random() < 0.6 / (1 + depth):
                self.fill(made, field, depth)
        return made

    def fill(self, message: Any, field: Any, depth: int) -> None:
        """Set a field to something of its type."""
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            for _ in range(self.chance.randint(1, 3)):
                key = self.scalar(entry.fields_by_name["key"])
                value = entry.fields_by_name["value"]
                if value.message_type is not None:
                    getattr(message, field.name)[key].CopyFrom(self.message(value.message_type, depth + 1))
                else:
                    getattr(message, field.name)[key] = self.scalar(value)
        elif field.is_repeated:
            for _ in range(self.chance.choice((0, 1, 1, 2, 5))):
                if entry is None:
                    getattr(message, field.name).append(self.scalar(field))
                elif depth < DEEPEST:
                    getattr(message, field.name).append(self.message(entry, depth + 1))
        elif entry is None:
            setattr(message, field.name, self.scalar(field))
        elif depth < DEEPEST:
            getattr(message, field.name).CopyFrom(self.message(entry, depth + 1))

    def scalar(self, field: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.chance.randbytes(self.chance.choice((0, 1, 100)))
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return self.chance.choice(_texts())
        return self.chance.choice(_numbers(field.cpp_type))


def _sampled(strategy: st.SearchStrategy[Any]) -> list[Any]:
    """Draw a stock of values once: what matters is how they are put together."""
    stock: list[Any] = []

    @settings(max_examples=200, database=None, derandomize=True, suppress_health_check=EVERY_CHECK)
    @given(strategy)
    def collect(value: Any) -> None:
        stock.append(value)

    collect()
    return stock


@cache
def _texts() -> list[str]:
    return _sampled(TEXT)


@cache
def _numbers(kind: int) -> list[Any]:
    return _sampled(NUMBERS[kind])


def spoiled(maker: Maker, method: MethodDescriptor) -> bytes:
    """A request that cannot be good."""
    message = maker.message(method.input_type)
    if method.name == "publish":
        message.events.add(spec_version="2.0")
    raw = message.SerializeToString()
    match maker.chance.randrange(6):
        case 0:
            return raw[: maker.chance.randrange(len(raw))] if raw else b"\xff"
        case 1:
            return maker.chance.randbytes(maker.chance.choice((1, 10, 1000)))
        case 2:
            changed = bytearray(raw or b"\x0a")
            for _ in range(3):
                changed[maker.chance.randrange(len(changed))] = maker.chance.randrange(256)
            return bytes(changed)
        case _:
            return raw


def odd(maker: Maker, method: MethodDescriptor, sound: Any) -> bytes:
    """A sound request, with random content somewhere inside."""
    made = type(sound)()
    made.CopyFrom(sound)
    place = made
    for _ in range(maker.chance.randrange(1, DEEPEST)):
        fields = place.DESCRIPTOR.fields
        field = maker.chance.choice(fields)
        if field.message_type is None or field.is_repeated or maker.chance.random() < 0.3:
            break
        place = getattr(place, field.name)
    else:
        field = maker.chance.choice(place.DESCRIPTOR.fields)
    maker.fill(place, field, 1)
    return made.SerializeToString()


@cache
def sound_requests() -> dict[str, Any]:
    """A good request of each resource's type, so that what is odd is looked at and not what stands before it."""
    flow = "document: {dsl: 1.0.0, namespace: t, name: f, version: 0.1.0}\ndo:\n  - a: {set: {b: 1}}\n"
    specs: dict[str, dict[str, Any]] = {
        "agent": {"instructions": "Answer every question in one sentence."},
        "workflow": {"definition": flow},
        "environment": {"data": {"REGION": {"value": "x"}}},
        "mcp_server": {"stdio": {"command": "serve"}},
        "execution_context": {"executionId": "wex-1", "data": {"A": {"value": "x"}}},
        "session": {"agentInstanceId": "ain-1"},
        "agent_instance": {"agentId": "agt-1"},
        "workflow_instance": {"workflowId": "wfl-1"},
        "agent_execution": {"agentId": "agt-1", "message": "go"},
        "workflow_execution": {"workflowId": "wfl-1"},
    }
    found: dict[str, Any] = {}
    for kind, spec in specs.items():
        name = descriptors.kind_by_enum_name(kind).message
        found[name] = ParseDict(
            manifest(kind, "sample", spec), descriptors.message_type(name)(), descriptor_pool=descriptors.pool()
        )
    return found


async def code_of(
    channel: Channel, service: str, method: MethodDescriptor, raw: bytes, metadata: Any, *, seconds: float = 0.02
) -> StatusCode:
    """Make the call; what streams is not read to its end."""
    stub = channel.service(service)
    try:
        if method.client_streaming:
            await stub.client_stream(method.name, [raw, raw], metadata=metadata)
        elif method.server_streaming:
            responses = stub.stream(method.name, raw, metadata=metadata)
            async with asyncio.timeout(seconds), responses:
                async for _ in responses:
                    pass
        else:
            await stub.unary(method.name, raw, metadata=metadata)
    except RpcError as error:
        return error.code
    except TimeoutError:
        pass
    return StatusCode.OK


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("service", [service.full_name for service in descriptors.services()])
def test_bad_requests_are_refused_and_leave_nothing(service: str, home: Path) -> None:
    methods = list(descriptors.pool().FindServiceByName(service).methods)

    @settings(max_examples=max(1, REQUESTS // BATCH), deadline=None, database=None, suppress_health_check=EVERY_CHECK)
    @given(st.data())
    def round_(data: st.DataObject) -> None:
        maker = Maker(data)
        batch = [_drawn(maker, maker.chance.choice(methods)) for _ in range(BATCH)]
        runner.run(_send(api, service, batch))

    with asyncio.Runner() as runner:
        (home / service).mkdir()
        opened = served(home / service)
        api = runner.run(anext(opened))
        try:
            round_()
        finally:
            runner.run(opened.aclose())


def _drawn(maker: Maker, method: MethodDescriptor) -> tuple[MethodDescriptor, bytes, Any]:
    sound = sound_requests().get(method.input_type.full_name)
    if sound is not None and maker.chance.random() < 0.5:
        return method, odd(maker, method, sound), DRY_RUN
    return method, spoiled(maker, method), ()


async def _send(api: Api, service: str, batch: list[tuple[MethodDescriptor, bytes, Any]]) -> None:
    store = api.app.resources.store
    before = await store.last_sequence()
    codes = await asyncio.gather(*(code_of(api.channel, service, *request) for request in batch))
    wrong = [
        (request[0].name, code.name, request[1]) for request, code in zip(batch, codes, strict=True) if code in FAULTS
    ]
    assert wrong == []
    assert await store.last_sequence() == before


async def served(folder: Path) -> AsyncGenerator[Api]:
    async with serve(folder) as api:
        await settled(api)
        yield api


async def test_a_request_over_the_limit_is_refused_by_every_method(api: Api) -> None:
    huge = b"\x0a" + b"\x81\x80\x80\x05" + b"x" * (10 * 2**20 + 1)

    for service in descriptors.services():
        for method in service.methods:
            code = await code_of(api.channel, service.full_name, method, huge, (), seconds=30)
            assert code in {StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNIMPLEMENTED}, method.full_name


async def test_what_is_no_http_at_all_hurts_nobody(tmp_path: Path) -> None:
    chance = random.Random(11)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    async with serve(tmp_path) as api:
        (address,) = await api.app.serve("127.0.0.1:0")
        host, _, port = address.rpartition(":")
        for number in range(60):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write((preface if number % 2 else b"") + chance.randbytes(chance.randrange(1, 3000)))
            if number % 3:
                writer.write_eof()
            async with asyncio.timeout(10):
                if number % 3:
                    while await reader.read(65536):
                        pass
            writer.close()
        async with connect(address, pool=descriptors.pool()) as channel:
            with pytest.raises(NotFoundError):
                await Api(channel)("agent", "get", {"value": "nobody"})
