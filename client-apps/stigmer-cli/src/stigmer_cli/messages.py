"""Messages of the contract as plain values, the way people and programs read them."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.plain import Json, is_list, is_object
from stigmer_cli.resources import Message

_EXACT = 2**53


def to_plain(message: Message) -> Any:
    """Return a message, a Struct or a Value as plain data: fields as the contract spells them, whole numbers whole."""
    return _whole(MessageToDict(message, preserving_proto_field_name=True))


def from_json(kind: Kind, plain: dict[str, Any]) -> Message:
    """Return a resource from its proto-JSON; what this version does not know is left out."""
    return ParseDict(plain, descriptors.message_type(kind.message)(), ignore_unknown_fields=True)


def value_to_plain(message: Message) -> Json:
    """Return a Value or a Struct as plain data. They keep no order of keys, so the keys come sorted."""
    return _sorted(to_plain(message))


def to_value(plain: Any) -> Message:
    """Return plain data as a google.protobuf.Value.

    Raises:
        InvalidInputError: It holds a whole number that would be rounded.
    """
    for number in _integers(plain):
        if abs(number) > _EXACT and int(float(number)) != number:
            msg = f"the number {number} is too long to be kept exactly"
            raise InvalidInputError(msg, hint="write it as a text, in quotes")
    return ParseDict(plain, descriptors.message_type("google.protobuf.Value")())


def _sorted(value: Json) -> Json:
    if is_object(value):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if is_list(value) else value


def _whole(value: Json) -> Json:
    if is_object(value):
        return {key: _whole(item) for key, item in value.items()}
    if is_list(value):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _integers(value: Json) -> list[int]:
    if is_object(value):
        return [number for item in value.values() for number in _integers(item)]
    if is_list(value):
        return [number for item in value for number in _integers(item)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []
