"""What a client finds without knowing the contract: health, reflection, and the calls that the pages show."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stigmer_server.kinds import registry
from stigmer_server.testing import Api, serve

README = Path(__file__).parents[1] / "README.md"
API = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.fixture
async def address(tmp_path: Path) -> AsyncGenerator[str]:
    async with serve(tmp_path, transport="tcp") as api:
        yield api.app.addresses[0]


async def test_health_says_serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        untyped: Any = health_pb2_grpc
        stub = untyped.HealthStub(channel)
        for service in ("", registry()["agent"].described.services[0]):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_every_service(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = await _reflect(channel, [request])
    listed = {service.name for service in answer.list_services_response.service}
    for kind in registry().values():
        assert set(kind.described.services) <= listed
    assert "ai.stigmer.runtime.v1.ExecutionRuntimeController" in listed
    assert "ai.stigmer.resources.v1.ResourceController" in listed


async def test_the_calls_of_the_pages_work_through_reflection(address: str) -> None:
    calls = [*_calls(README.read_text()), *_calls(API.read_text())]
    assert len(calls) >= 15
    made: dict[str, str] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        for method, body, headers in calls:
            filled = body
            for name, value in made.items():
                filled = filled.replace(name, value)
            answer = await _call(channel, method, json.loads(filled), headers)
            kind = answer.get("kind")
            if kind:
                made[f"<{kind.lower()} id>"] = answer["metadata"]["id"]


def _calls(text: str) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return method, request and metadata of every grpcurl call of a page, in order; streams are left out."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [command for block in blocks for command in re.split(r"\n(?=grpcurl)", block) if "grpcurl" in command]
    parts = [shlex.split(command.replace("\\\n", " "), comments=True) for command in commands]
    calls = [(words[-1], words[words.index("-d") + 1], _headers(words)) for words in parts if "-d" in words]
    return [call for call in calls if not call[0].endswith(("/subscribe", "/watch"))]


def _headers(words: list[str]) -> list[tuple[str, str]]:
    given = [words[at + 1].partition(": ") for at, word in enumerate(words) if word == "-H"]
    return [(name, value) for name, _, value in given]


async def _call(channel: Any, method: str, body: dict[str, Any], headers: list[tuple[str, str]]) -> dict[str, Any]:
    """Call a method knowing nothing but what reflection tells, as grpcurl does."""
    service, _, name = method.partition("/")
    pool = await _pool(channel, service)
    described = pool.FindServiceByName(service).methods_by_name[name]
    request = GetMessageClass(described.input_type)()
    json_format.ParseDict(body, request, descriptor_pool=pool)
    call: Any = channel.unary_unary(
        f"/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(described.output_type).FromString,
    )
    return json_format.MessageToDict(await call(request, metadata=headers), descriptor_pool=pool)


async def _pool(channel: Any, service: str) -> DescriptorPool:
    """Return a pool with the service and everything it needs, fetched file by file."""
    pool = DescriptorPool()
    files: dict[str, FileDescriptorProto] = {}
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
    wanted = [request]
    while wanted:
        answers = await _reflect(channel, wanted)
        wanted = []
        for answer in answers:
            for raw in answer.file_descriptor_response.file_descriptor_proto:
                file = FileDescriptorProto.FromString(raw)
                files[file.name] = file
        missing = {name for file in files.values() for name in file.dependency} - set(files)
        wanted = [reflection_pb2.ServerReflectionRequest(file_by_filename=name) for name in sorted(missing)]
    _add(pool, files, set(), list(files))
    return pool


def _add(pool: DescriptorPool, files: dict[str, FileDescriptorProto], added: set[str], names: list[str]) -> None:
    for name in names:
        if name not in added:
            added.add(name)
            _add(pool, files, added, list(files[name].dependency))
            pool.Add(files[name])


async def _reflect(channel: Any, requests: list[Any]) -> list[Any]:
    untyped: Any = reflection_pb2_grpc
    stub = untyped.ServerReflectionStub(channel)
    return [answer async for answer in stub.ServerReflectionInfo(iter(requests))]


async def test_the_probe_of_older_clients_finds_a_living_server(api: Api) -> None:
    from stigmer_grpc import InvalidArgumentError

    with pytest.raises(InvalidArgumentError):
        await api("agent", "getByReference", {})
