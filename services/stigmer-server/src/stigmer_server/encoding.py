"""Protobuf's encoding, for what is put together from encoded pieces without decoding them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_DELIMITED = 2
"""The wire type of whatever has a length."""


@dataclass(frozen=True, slots=True)
class Field:
    """Where one field of an encoded message is."""

    number: int
    start: int
    content: int
    """Where its content begins, after its tag and its length."""
    end: int


def delimited(number: int, content: bytes) -> bytes:
    """Return the field with this number and content: an embedded message, or an entry of an array of them."""
    return _head(number, len(content)) + content


def fields(wire: bytes) -> Iterator[Field]:
    """Yield the fields of an encoded message, which has no groups, in the order in which they stand there."""
    at = 0
    while at < len(wire):
        start = at
        tag, content = _read_varint(wire, at)
        match tag & 7:
            case 0:
                _, at = _read_varint(wire, content)
            case 1:
                at = content + 8
            case 5:
                at = content + 4
            case _:
                size, content = _read_varint(wire, content)
                at = content + size
        yield Field(tag >> 3, start, content, at)


def extended(wire: bytes, number: int, more: bytes) -> bytes:
    """Return the message with more content at the end of its embedded message with this number.

    Joining both would do for protobuf as well, but some decoders keep only the last of a field that comes twice.
    """
    for field in fields(wire):
        if field.number == number:
            # In one go: there may be a megabyte of it.
            head = _head(number, field.end - field.content + len(more))
            return b"".join((wire[: field.start], head, wire[field.content : field.end], more, wire[field.end :]))
    return b"".join((wire, delimited(number, more)))


def _head(number: int, size: int) -> bytes:
    """Return what stands before the content of a field that has a length."""
    return _varint(number << 3 | _DELIMITED) + _varint(size)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _read_varint(wire: bytes, at: int) -> tuple[int, int]:
    """Return the number there, and where what follows it begins."""
    value = shift = 0
    while True:
        byte = wire[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
