"""What no RPC takes, whatever it is for: bytes that are no message, messages that are too large, unknown methods."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from stigmer_protos import descriptors

OPEN = [kind for kind in descriptors.KINDS if kind.tier == "open"]
NAMES = [
    f"{kind.enum_name}/{method.name}"
    for kind in OPEN
    for service in kind.services
    if not service.endswith(("ControlController", "TransferController"))
    for method in descriptors.pool().FindServiceByName(service).methods
]


@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_are_no_message_are_invalid(client: Any, name: str) -> None:
    request = client.descriptor(name).input_type
    for raw in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", *_no_text(request)):
        assert request.full_name in client.refused(name, raw, "INVALID_ARGUMENT").message


def _no_text(request: Any) -> list[bytes]:
    """Return requests whose first text is a lone surrogate, or no UTF-8 at all."""
    numbers = [field.number for field in request.fields if field.type == FieldDescriptor.TYPE_STRING]
    return [bytes((numbers[0] << 3 | 2, len(text))) + text for text in (b"\xed\xa0\x80", b"\xff") if numbers]


@pytest.mark.parametrize("kind", [kind.enum_name for kind in OPEN if kind.enum_name != "skill"])
def test_a_document_above_the_limit_is_refused(client: Any, make: Any, kind: str) -> None:
    sent = make.manifest(kind, "Large", annotations={"a": "x" * (10 * 1024 * 1024)})
    assert "10485760" in client.refused(f"{kind}/create", sent, "RESOURCE_EXHAUSTED").message


@pytest.mark.parametrize("kind", [kind.enum_name for kind in OPEN if kind.enum_name != "skill"])
def test_metadata_has_limits(client: Any, make: Any, kind: str) -> None:
    metadata = {"labels": {"a": "x" * 2000}, "annotations": {"b": "\0"}, "tags": ["c\n"], "slug": "d" * 300}
    sent = make.manifest(kind, "e" * 300, **metadata)
    assert client.refused(f"{kind}/create", sent, "INVALID_ARGUMENT").fields == {
        "metadata.name": "metadata.name.length",
        "metadata.slug": "metadata.slug.length",
        'metadata.labels["a"]': "metadata.labels.length",
        'metadata.annotations["b"]': "metadata.annotations.characters",
        "metadata.tags[0]": "metadata.tags.characters",
    }


def test_values_nest_only_so_deep(client: Any, make: Any) -> None:
    def nested(depth: int) -> Any:
        return {"a": nested(depth - 1)} if depth else {}

    make("workflow_execution", spec={"input": nested(24)})
    assert client("ResourceController/list", {"kind": "workflow_execution", "org": client.org}).total_count == 1
    sent = make.manifest("workflow_execution", spec={"input": nested(25)})
    assert "nests too deep" in client.refused("workflow_execution/create", sent, "INVALID_ARGUMENT").message
    # Built by hand: no library encodes what none of them decodes.
    value = b""
    for _ in range(200):
        inner = b"\x0a\x01a\x12" + _varint(len(value)) + value
        entry = b"\x0a" + _varint(len(inner)) + inner
        value = b"\x2a" + _varint(len(entry)) + entry
    spec_type = client.descriptor("workflow_execution/create").input_type.fields_by_name["spec"].message_type
    number: int = spec_type.fields_by_name["input"].number
    spec = _varint(number << 3 | 2) + _varint(len(value)) + value
    raw = b"\x22" + _varint(len(spec)) + spec
    client.refused("workflow_execution/create", raw, "INVALID_ARGUMENT")


def _varint(value: int) -> bytes:
    return bytes((value & 0x7F | 0x80,)) + _varint(value >> 7) if value > 0x7F else bytes((value,))


def test_a_method_that_is_not_there_is_unimplemented(channel: grpc.Channel) -> None:
    untyped: Any = channel
    for path in ("/ai.stigmer.agentic.agent.v1.AgentCommandController/nothing", "/nothing.at.All/ever"):
        with pytest.raises(grpc.RpcError) as caught:
            untyped.unary_unary(path)(b"", timeout=10)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert path in error.details()
