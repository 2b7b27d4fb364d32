"""JSON values and their protobuf forms, `google.protobuf.Value` and `Struct`.

Both forms hold numbers as doubles. Whole numbers come back whole, and a whole number that a double
cannot hold travels as a string of its digits, so no value is ever rounded.
"""

import json
import math
from typing import Any, cast

_EXACT = 2**53
"""Every whole number up to here is a double of its own."""

_OBJECT, _ARRAY = 3, 2
"""Messages inside each other that an object, or an array, takes as a `google.protobuf.Value`."""
_DEEPEST = 75
"""Of those, how many the server takes: 25 objects, or 37 arrays."""

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
Message = Any
"""A protobuf message of a descriptor pool; its fields are read by name."""


def is_too_deep(value: Json, room: int = _DEEPEST) -> bool:
    """Whether a value is nested deeper than the server takes one as a message."""
    match value:
        case list():
            left, items = room - _ARRAY, value
        case dict():
            left, items = room - _OBJECT, value.values()
        case _:
            return False
    return left < 0 or any(is_too_deep(item, left) for item in items)


def shallow(value: Json, room: int = _DEEPEST) -> Json:
    """Return a value with what is nested too deep for a message as text: its JSON."""
    match value:
        case list() if room >= _ARRAY:
            return [shallow(item, room - _ARRAY) for item in value]
        case dict() if room >= _OBJECT:
            return {name: shallow(item, room - _OBJECT) for name, item in value.items()}
        case list() | dict():
            return _text(value)
        case _:
            return value


def _text(value: Json) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "…"


def sayable(text: str) -> str:
    """Return a text as UTF-8 can say it: half of a surrogate pair, which JSON may hold, becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def sayable_value(value: Any) -> Any:
    """Return a JSON value with every text and key in it `sayable`."""
    match value:
        case str():
            return sayable(value)
        case list():
            return [sayable_value(item) for item in cast("list[Any]", value)]
        case dict():
            return {sayable(name): sayable_value(item) for name, item in cast("dict[str, Any]", value).items()}
        case _:
            return value


def fill_value(message: Message, value: Json) -> None:
    """Set a `google.protobuf.Value` to `value`."""
    match value:
        case None:
            message.null_value = 0
        case bool():
            message.bool_value = value
        case str():
            message.string_value = sayable(value)
        case int():
            if -_EXACT <= value <= _EXACT:
                message.number_value = value
            else:
                message.string_value = str(value)
        case float():
            if math.isfinite(value):
                message.number_value = value
            else:
                message.null_value = 0
        case list():
            items = message.list_value.values
            message.list_value.SetInParent()
            for item in value:
                fill_value(items.add(), item)
        case dict():
            fill_struct(message.struct_value, value)


def fill_struct(message: Message, value: dict[str, Any]) -> None:
    """Set a `google.protobuf.Struct` to `value`."""
    message.SetInParent()
    fields = message.fields
    for name, item in value.items():
        fill_value(fields[sayable(name)], item)


def read_value(message: Message) -> Json:
    """Return what a `google.protobuf.Value` holds; one that holds nothing reads as null."""
    match message.WhichOneof("kind"):
        case "number_value":
            return whole(message.number_value)
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case "struct_value":
            return read_struct(message.struct_value)
        case "list_value":
            return [read_value(item) for item in message.list_value.values]
        case _:
            return None


def read_struct(message: Message) -> dict[str, Any]:
    """Return what a `google.protobuf.Struct` holds."""
    return {name: read_value(message.fields[name]) for name in sorted(message.fields)}


def whole(number: float) -> int | float:
    """Return `number` as an int when it is a whole one that a double holds exactly."""
    return int(number) if number.is_integer() and -_EXACT <= number <= _EXACT else number
