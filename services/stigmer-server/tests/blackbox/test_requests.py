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


def test_a_method_that_is_not_there_is_unimplemented(channel: grpc.Channel) -> None:
    untyped: Any = channel
    for path in ("/ai.stigmer.agentic.agent.v1.AgentCommandController/nothing", "/nothing.at.All/ever"):
        with pytest.raises(grpc.RpcError) as caught:
            untyped.unary_unary(path)(b"", timeout=10)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert path in error.details()
