"""Messages as JSON, and back.

The standard mapping of protobuf, with three choices. Fields have the names of the .proto (the names in camel case are
read too). Fields that were not sent have their default, as the receiving program would see it. And 64-bit whole
numbers are numbers, which the mapping writes as texts for the sake of languages that cannot hold them: here they stay
exact.
"""

from collections.abc import Mapping
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool

from workflow_runner.activities.calls import CallFailedError

Message = Any
_WIDE_WRAPPERS = ("google.protobuf.Int64Value", "google.protobuf.UInt64Value")
_ANY = "google.protobuf.Any"
_WELL_KNOWN = "google.protobuf."
_MOST_DEPTH = 100


def to_message(kind: type[Any], value: Any, pool: DescriptorPool, *, what: str) -> Message:
    """Return `value` as a message.

    Raises:
        CallFailedError: It is none; says which field is wrong.
    """
    name = kind.DESCRIPTOR.full_name
    if not isinstance(value, dict) and not name.startswith(_WELL_KNOWN):
        raise CallFailedError("validation", f"{what} must be an object, as {name} is, not {_kind_of(value)}")
    try:
        return json_format.ParseDict(cast("Any", value), kind(), descriptor_pool=pool, max_recursion_depth=_MOST_DEPTH)
    except json_format.ParseError as error:
        said = " ".join(str(error).split())
        raise CallFailedError("validation", f"{what} is no {name}: {said}") from None
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CallFailedError("validation", f"{what} is no {name}: {error or type(error).__name__}") from None


def to_json(message: Message, pool: DescriptorPool) -> Any:
    """Return `message` as a JSON value.

    Raises:
        CallFailedError: It holds a type that is not described, or is nested too deep.
    """
    try:
        value = json_format.MessageToDict(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=pool,
        )
        return _exact(message.DESCRIPTOR, value, pool)
    except (json_format.Error, TypeError, ValueError, KeyError, RecursionError) as error:
        name = message.DESCRIPTOR.full_name
        raise CallFailedError("communication", f"an answer of {name} cannot be read: {error}", status=502) from None


def _exact(kind: Any, value: Any, pool: DescriptorPool) -> Any:
    """Return the JSON of a message with its 64-bit numbers as numbers."""
    if kind.full_name in _WIDE_WRAPPERS:
        return int(value)
    if kind.full_name == _ANY:
        return _exact_any(value, pool)
    if kind.full_name.startswith(_WELL_KNOWN) or not isinstance(value, dict):
        return value
    fields = kind.fields_by_name
    members = cast("dict[str, Any]", value)
    return {name: _field(fields[name], item, pool) if name in fields else item for name, item in members.items()}


def _exact_any(value: Mapping[str, Any], pool: DescriptorPool) -> Any:
    url = value.get("@type")
    if url is None:
        return value
    kind: Any = pool.FindMessageTypeByName(url.rpartition("/")[2])
    if set(value) == {"@type", "value"} and kind.full_name.startswith(_WELL_KNOWN):
        return {"@type": url, "value": _exact(kind, value["value"], pool)}
    return _exact(kind, value, pool)


def _field(field: Any, value: Any, pool: DescriptorPool) -> Any:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        of = inner.fields_by_name["value"]
        return {key: _single(of, item, pool) for key, item in value.items()}
    if field.is_repeated:
        return [_single(field, item, pool) for item in value]
    return _single(field, value, pool)


def _single(field: Any, value: Any, pool: DescriptorPool) -> Any:
    if value is None:
        return None
    if field.message_type is not None:
        return _exact(field.message_type, value, pool)
    return int(value) if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) else value


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a text"
        case list():
            return "an array"
        case _:
            return "a number"
