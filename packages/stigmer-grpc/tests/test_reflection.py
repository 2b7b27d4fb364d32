"""Reflection, read by grpcio-reflection's own client and call by call."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import proto_reflection_descriptor_database
from stigmer_grpc import UnimplementedError
from stigmer_grpc.reflection import own_pool
from stigmer_grpc.testing import channel_to

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "lab.v1.Lab",
]


async def test_a_reflection_client_rebuilds_the_service_from_what_it_reads(tcp_lab: Any) -> None:
    server = tcp_lab.server()
    (address,) = await server.start()

    def read() -> tuple[list[str], list[str], list[str]]:
        untyped: Any = proto_reflection_descriptor_database
        with grpc.insecure_channel(address) as channel:
            database = untyped.ProtoReflectionDescriptorDatabase(channel)
            found: Any = DescriptorPool(database)
            lab = found.FindServiceByName("lab.v1.Lab")
            health = found.FindServiceByName("grpc.health.v1.Health")
            return (
                sorted(database.get_services()),
                [method.name for method in lab.methods],
                [method.name for method in health.methods],
            )

    services, lab_methods, health_methods = await asyncio.to_thread(read)
    assert services == SERVICES
    assert lab_methods == ["echo", "count", "collect", "relay", "missing", "missingStream"]
    assert health_methods == ["Check", "List", "Watch"]
    await server.stop()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_both_versions_answer_every_question(lab: Any, version: str) -> None:
    server = lab.server()
    server.pool = own_pool()
    questions = [
        {"listServices": ""},
        {"fileByFilename": "lab.proto"},
        {"fileContainingSymbol": f"grpc.reflection.{version}.ServerReflection"},
        {"fileContainingSymbol": "lab.v1.Lab.echo"},
        {"fileContainingExtension": {"containingType": "google.protobuf.FieldOptions", "extensionNumber": 1159}},
        {"allExtensionNumbersOfType": "google.protobuf.FieldOptions"},
        {"fileByFilename": "nothing.proto"},
        {"fileContainingSymbol": "lab.v1.Nothing"},
        {},
    ]
    async with channel_to(server, lab.transport) as channel:
        stub = channel.service(f"grpc.reflection.{version}.ServerReflection")
        answers = [answer async for answer in stub.bidi("ServerReflectionInfo", questions)]
    assert [service.name for service in answers[0].list_services_response.service] == SERVICES
    assert _files(answers[1]) == {"lab.proto", "buf/validate/validate.proto", "google/protobuf/descriptor.proto"}
    assert len(_files(answers[2])) == 1
    assert "lab.proto" in _files(answers[3])
    assert "buf/validate/validate.proto" in _files(answers[4])
    assert list(answers[5].all_extension_numbers_response.extension_number) == [1159]
    assert [answer.error_response.error_code for answer in answers[6:]] == [5, 5, 3]
    assert answers[1].original_request.file_by_filename == "lab.proto"


def _files(answer: Any) -> set[str]:
    raw = answer.file_descriptor_response.file_descriptor_proto
    return {FileDescriptorProto.FromString(file).name for file in raw}


async def test_reflection_can_be_left_out(pool: Any, tcp_lab: Any) -> None:
    from stigmer_grpc import Server

    server = Server([tcp_lab.service()], pool=own_pool(), reflection=False)
    async with channel_to(server, "in-process") as channel:
        stub = channel.service("grpc.reflection.v1.ServerReflection")
        with pytest.raises(UnimplementedError):
            await anext(stub.bidi("ServerReflectionInfo", [{"listServices": ""}]))
