"""How an error travels: RpcError to code, message and trailing metadata, and back.

The richer model of gRPC: a google.rpc.Status, with the details, in the trailing metadata
`grpc-status-details-bin`. Knows bytes and metadata, no calls and no channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from loguru import logger

from stigmer_grpc.errors import RpcError, StatusCode, error_for

DETAILS = "grpc-status-details-bin"

MAX_MESSAGE_BYTES = 1024
MAX_STATUS_BYTES = 5 * 1024
"""Trailers of more than 8 KiB, which is what both together can come to at worst, are refused by common clients."""

_DETAIL_TYPES: Mapping[str, Any] = {
    descriptor.full_name: getattr(error_details_pb2, name)
    for name, descriptor in error_details_pb2.DESCRIPTOR.message_types_by_name.items()
}
_TOO_LARGE = re.compile(r"(Received|Sent) message larger than max \((\d+) vs\. (\d+)\)")


def to_wire(error: RpcError) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """The message and the trailing metadata that say `error`, cut to what every client accepts."""
    message = _shorten(error.message)
    if not error.details:
        return message, ()
    status = status_pb2.Status(code=int(error.code), message=message)
    room = MAX_STATUS_BYTES - status.ByteSize()
    for detail in error.details:
        packed = _pack(detail, room)
        if packed is not None:
            status.details.append(packed)
            room -= packed.ByteSize() + 4
    return message, ((DETAILS, status.SerializeToString()),)


def from_wire(code: int, message: str, metadata: Iterable[tuple[str, str | bytes]]) -> RpcError:
    """The error a client raises for a status it received."""
    trailing = dict(metadata)
    try:
        status_code = StatusCode(code)
    except ValueError:
        status_code = StatusCode.UNKNOWN
    error = error_for(status_code, _clearer(status_code, message), _decode_details(trailing.get(DETAILS)))
    error.metadata = trailing
    return error


def too_large(what: str, size: int, limit: int) -> str:
    """The message for a message over the limit."""
    return f"{what} of {size} bytes is larger than the limit of {limit} bytes"


def _clearer(code: StatusCode, message: str) -> str:
    """Say a size error of grpc's core the way we say our own."""
    found = _TOO_LARGE.search(message) if code is StatusCode.RESOURCE_EXHAUSTED else None
    if not found:
        return message
    what = "a received message" if found[1] == "Received" else "a message to send"
    side = "the server" if message.startswith("SERVER") else "the client"
    return too_large(f"{side}: {what}", int(found[2]), int(found[3]))


def _shorten(message: str) -> str:
    """Cut at the number of bytes that percent-encoding makes of it."""
    if len(message) * 3 <= MAX_MESSAGE_BYTES:
        return message
    room = MAX_MESSAGE_BYTES - 3 * len("…".encode())
    for index, character in enumerate(message):
        room -= 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode(errors="replace"))
        if room < 0:
            return message[:index] + "…"
    return message


def _pack(detail: Any, room: int) -> AnyMessage | None:
    packed = AnyMessage()
    if isinstance(detail, AnyMessage):
        packed.CopyFrom(detail)
    else:
        packed.Pack(detail)
    if packed.ByteSize() <= room:
        return packed
    if isinstance(detail, error_details_pb2.BadRequest) and len(detail.field_violations) > 1:
        fewer = error_details_pb2.BadRequest(
            field_violations=detail.field_violations[: len(detail.field_violations) // 2]
        )
        return _pack(fewer, room)
    logger.debug("error detail {} of {} bytes left out: too large", packed.type_url, packed.ByteSize())
    return None


def _decode_details(data: str | bytes | None) -> tuple[Any, ...]:
    if not isinstance(data, bytes):
        return ()
    try:
        return tuple(_unpack(packed) for packed in status_pb2.Status.FromString(data).details)
    except DecodeError:
        # The details only add to the code and the message, which are sound.
        return ()


def _unpack(packed: AnyMessage) -> Any:
    detail_type = _DETAIL_TYPES.get(packed.TypeName())
    if detail_type is None:
        return packed
    return detail_type.FromString(packed.value)
