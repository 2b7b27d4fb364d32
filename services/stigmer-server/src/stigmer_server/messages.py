"""Protobuf messages as the server handles them: copied, read by path, and written as JSON text.

Knows descriptors and the well-known types, and nothing of any kind of resource.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor

# Resources are upb messages built at run time from the descriptor set, so that a new kind needs no generated
# class. No static type describes them; this one alias says so wherever such a message is handled.
Message = Any

_REFERENCE = "ai.stigmer.commons.apiresource.ApiResourceReference"
_STANDARD = "google.protobuf."
_EXACT_DOUBLE = 2**53
_OBJECT, _ARRAY = 3, 2
"""Messages inside each other that a JSON object, or an array, takes as a google.protobuf.Value."""
_DEEPEST = 75
"""Of those, how many a value may take: with what is around it on its way, decoders stop at 100."""
_EPOCH = datetime(1970, 1, 1)
_WIDE = frozenset(
    {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64},
)
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})


def copied(message: Message) -> Message:
    """Return a copy of the message that shares nothing with it."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def at_path(message: Message, path: str) -> Message:
    """Return the value at a dotted path of field names, such as `spec.env_spec.data`; unset fields read as empty."""
    value = message
    for name in path.split("."):
        value = getattr(value, name)
    return value


def set_path(message: Message, path: str, value: object) -> None:
    """Set the scalar field at a dotted path."""
    *parents, name = path.split(".")
    setattr(at_path(message, ".".join(parents)) if parents else message, name, value)


def references(message: Message, path: str = "") -> Iterator[tuple[str, Message]]:
    """Yield every ApiResourceReference anywhere in the message, with its path, such as `spec.skill_refs[0]`."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.full_name.startswith(_STANDARD):
            continue
        place = f"{path}.{field.name}" if path else field.name
        for name, item in _items(field, place, value):
            if item.DESCRIPTOR.full_name == _REFERENCE:
                yield name, item
            else:
                yield from references(item, name)


def walk(message: Message, path: str, prefix: str = "") -> Iterator[tuple[str, Message]]:
    """Yield the messages at a path, each with its own, walking through every repeated message on the way."""
    value, place, rest = message, prefix, path
    # By a loop down to the first repeated message, as a generator for each name on the way costs more than all else.
    while not hasattr(value, "add"):
        name, _, rest = rest.partition(".")
        value, place = getattr(value, name), f"{place}.{name}" if place else name
    for index, item in enumerate(value):
        if rest:
            yield from walk(item, rest, f"{place}[{index}]")
        else:
            yield f"{place}[{index}]", item


def _items(field: FieldDescriptor, place: str, value: Any) -> Iterator[tuple[str, Message]]:
    """Yield the messages in a field, with their paths."""
    described: Any = field.message_type
    if not field.is_repeated:
        yield place, value
    elif not described.GetOptions().map_entry:
        yield from ((f"{place}[{at}]", item) for at, item in enumerate(value))
    elif described.fields_by_name["value"].message_type is not None:
        yield from ((f"{place}[{key}]", value[key]) for key in value)


def fill_struct(struct: Message, value: dict[str, Any]) -> None:
    """Make a google.protobuf.Struct say what the mapping says."""
    struct.Clear()
    struct.update(value)


def to_json(message: Message) -> str:
    """Return the message as compact proto-JSON with camelCase names.

    Differs from protobuf's own printer in two things: numbers of a Struct that are whole stay whole (3, not 3.0),
    and it is several times faster.

    Raises:
        ValueError: A Struct holds NaN or an infinity, which JSON cannot say, or nests too deep.
    """
    return orjson.dumps(to_plain(message)).decode()


def to_plain(message: Message) -> Any:
    """Return the message as plain dictionaries, lists and scalars, as `to_json` writes them."""
    return _converter(message.DESCRIPTOR)(message)


def value_to_plain(value: Message, room: int = _DEEPEST) -> Any:
    """Return what a google.protobuf.Value stands for; whole numbers are integers. Raises: ValueError as `to_json`."""
    which = value.WhichOneof("kind")
    match which:
        case None | "null_value":
            return None
        case "number_value":
            return _number(value.number_value)
        case "struct_value":
            return _struct(value.struct_value, room)
        case "list_value":
            return _list(value.list_value, room)
        case _:
            return getattr(value, which)


def _number(value: float) -> int | float:
    if not math.isfinite(value):
        msg = "a number that is not finite has no JSON form"
        raise ValueError(msg)
    return int(value) if value.is_integer() and abs(value) <= _EXACT_DOUBLE else value


def _struct(struct: Message, room: int = _DEEPEST) -> dict[str, Any]:
    left = _left(room, _OBJECT)
    return {key: value_to_plain(item, left) for key, item in struct.fields.items()}


def _list(values: Message, room: int = _DEEPEST) -> list[Any]:
    left = _left(room, _ARRAY)
    return [value_to_plain(item, left) for item in values.values]


def _left(room: int, taken: int) -> int:
    if room < taken:
        most = f"{_DEEPEST // _OBJECT} objects, or {_DEEPEST // _ARRAY} arrays"
        msg = f"a value nests too deep: at most {most} can be inside each other"
        raise ValueError(msg)
    return room - taken


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _timestamp(message: Message) -> str:
    return _moment(message.seconds, message.nanos)


@lru_cache(maxsize=1024)
def _moment(seconds: int, nanos: int) -> str:
    """Return a moment in RFC 3339 with 0, 3, 6 or 9 digits; one audit says the same moment four times."""
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()
    digits = f"{nanos:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z" if digits else f"{text}Z"


_WELL_KNOWN: dict[str, Callable[[Message], Any]] = {
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": value_to_plain,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": lambda message: message.ToJsonString(),
}
_converters: dict[Descriptor, Callable[[Message], Any]] = {}


def _converter(descriptor: Descriptor) -> Callable[[Message], Any]:
    known = _converters.get(descriptor)
    if known is None:
        known = _WELL_KNOWN.get(descriptor.full_name) or _regular(descriptor)
        _converters[descriptor] = known
    return known


def _regular(descriptor: Descriptor) -> Callable[[Message], Any]:
    """Return the converter of an ordinary message; its fields' converters are made once, at first use."""
    plan: dict[FieldDescriptor, tuple[str, Callable[[Any], Any] | None]] = {}

    def convert(message: Message) -> dict[str, Any]:
        if not plan:
            plan.update({field: (field.json_name, _unless_same(_field(field))) for field in descriptor.fields})
        result: dict[str, Any] = {}
        for field, value in message.ListFields():
            name, item = plan[field]
            result[name] = value if item is None else item(value)
        return result

    return convert


def _unless_same(item: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
    """Return None for what is written as it is, which most is: texts, small numbers, truth."""
    return None if item is _same else item


def _field(field: FieldDescriptor) -> Callable[[Any], Any]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        item = _single(entry.fields_by_name["value"])
        # A boolean key is the one whose text in Python is not its text in JSON.
        return lambda values: {
            (str(key).lower() if isinstance(key, bool) else str(key)): item(values[key]) for key in values
        }
    one = _single(field)
    return (lambda values: [one(value) for value in values]) if field.is_repeated else one


def _single(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.message_type is not None:
        return _converter(field.message_type)
    if field.enum_type is not None:
        names: dict[int, str] = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if field.cpp_type in _WIDE:
        return str
    return _float if field.cpp_type in _FLOATS else _same


def _same(value: Any) -> Any:
    return value
