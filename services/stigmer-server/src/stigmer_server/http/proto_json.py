"""From JSON text to messages, strictly: every problem at once, each with the path of its field.

Reads what proto-JSON defines, and refuses what would be lost: unknown fields, names given twice, numbers that do not
fit.
Protobuf's own reader tells one problem at a time, in words of its own, and takes `[]` for an empty message.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from stigmer_grpc import FieldViolation, InvalidArgumentError

from stigmer_server.http.scalars import WrongValueError, has_surrogate, kind_of, scalar, text
from stigmer_server.messages import Message

_MAX_DEPTH = 100
_MAX_PROBLEMS = 20
_EXACT_DOUBLE = 2**53


class Problems:
    """What is wrong with one document, in the order in which it was found."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, path: str, rule: str, message: str) -> None:
        """Note a problem; after the first few it is clear that the document is of another kind."""
        if len(self._found) < _MAX_PROBLEMS:
            self._found.append(FieldViolation(path, f"json.{rule}", message))

    def check(self) -> None:
        """Raise what was noted, if anything was. Raises: InvalidArgumentError."""
        if not self._found:
            return
        shown = "; ".join(f"{item.field}: {item.message}" if item.field else item.message for item in self._found[:5])
        raise InvalidArgumentError(f"invalid request: {shown}", self._found)


def parse_json(text: bytes) -> Any:
    """Return what JSON text says.

    Raises:
        InvalidArgumentError: It is not JSON in UTF-8, is nested too deeply, or has an object with one name twice.
    """
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except RecursionError:
        reason = "nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except ValueError as error:
        reason = str(error)
    message = f"the body is not valid JSON: {reason}"
    raise InvalidArgumentError(message, [FieldViolation("", "json.syntax", message)])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"the name {json.dumps(twice)} is there twice in one object"
        raise ValueError(msg)
    return made


def _no_constant(name: str) -> Any:
    msg = f"{name} is no JSON value"
    raise ValueError(msg)


def read(plain: Any, message: Message, *, path: str = "") -> None:
    """Fill a message with what parsed JSON says.

    Args:
        plain: As `parse_json` returns it.
        message: An empty message; what it holds already is added to.
        path: Where the message is in the request, for what is told of problems.

    Raises:
        InvalidArgumentError: It does not fit; the violations name the fields as the .proto spells them. The message
            is then half filled and of no use.
    """
    problems = Problems()
    reader(message.DESCRIPTOR)(plain, message, path, problems, 0)
    problems.check()


Reader = Callable[[Any, Message, str, Problems, int], None]
_readers: dict[Descriptor, Reader] = {}


def reader(descriptor: Descriptor) -> Reader:
    """Return what reads JSON into messages of a type; made once a type."""
    known = _readers.get(descriptor)
    if known is None:
        known = _readers[descriptor] = _WELL_KNOWN.get(descriptor.full_name) or _regular(descriptor)
    return known


def spellings(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Return the fields of a message by each of the names that JSON may call them."""
    return {name: field for field in descriptor.fields for name in (field.name, field.json_name)}


def _regular(descriptor: Descriptor) -> Reader:
    names = spellings(descriptor)
    setters: dict[int, Callable[[Any, Message, str, Problems, int], None]] = {}

    def fill(plain: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
        if not isinstance(plain, dict):
            problems.add(path, "type", f"expected an object, got {kind_of(plain)}")
            return
        if depth > _MAX_DEPTH:
            problems.add(path, "depth", f"nested more than {_MAX_DEPTH} deep")
            return
        if not setters:
            setters.update({field.number: _setter(field) for field in descriptor.fields})
        seen: dict[int, str] = {}
        for name, value in cast("dict[str, Any]", plain).items():
            field = names.get(name)
            if field is None:
                problems.add(_join(path, name), "unknown_field", unknown_field(descriptor, name))
            elif field.number in seen:
                problems.add(_join(path, field.name), "twice", f"given as {seen[field.number]} and as {name}")
            else:
                seen[field.number] = name
                if _one_too_many(field, message, value):
                    problems.add(_join(path, field.name), "oneof", f"only one of {_alternatives(field)} may be given")
                setters[field.number](value, message, _join(path, field.name), problems, depth + 1)

    return fill


def unknown_field(descriptor: Descriptor, name: str) -> str:
    """Say that a message has no such field, and which may have been meant."""
    close = difflib.get_close_matches(name, [field.json_name for field in descriptor.fields], n=1)
    return f"{descriptor.name} has no such field" + (f"; did you mean {close[0]}?" if close else "")


def _one_too_many(field: FieldDescriptor, message: Message, value: Any) -> bool:
    oneof = field.containing_oneof
    return oneof is not None and value is not None and message.WhichOneof(oneof.name) not in (None, field.name)


def _alternatives(field: FieldDescriptor) -> str:
    return ", ".join(other.name for other in cast("Any", field.containing_oneof).fields)


def _setter(field: FieldDescriptor) -> Reader:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return _map_setter(field, entry)
    if field.is_repeated:
        return _list_setter(field)
    if entry is not None:
        return _message_setter(field, entry)
    convert, name = scalar(field), field.name

    def assign(value: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
        del depth
        if value is None:
            return
        try:
            setattr(message, name, convert(value))
        except WrongValueError as error:
            problems.add(path, error.rule, str(error))

    return assign


def _message_setter(field: FieldDescriptor, entry: Descriptor) -> Reader:
    name, takes_null = field.name, entry.full_name == "google.protobuf.Value"

    def assign(value: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
        if value is None and not takes_null:
            return
        inner = getattr(message, name)
        inner.SetInParent()
        reader(entry)(value, inner, path, problems, depth)

    return assign


def _list_setter(field: FieldDescriptor) -> Reader:
    name, entry = field.name, field.message_type
    convert = None if entry is not None else scalar(field)
    takes_null = entry is not None and entry.full_name == "google.protobuf.Value"

    def assign(value: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
        if value is None:
            return
        if not isinstance(value, list):
            problems.add(path, "type", f"expected a list, got {kind_of(value)}")
            return
        target = getattr(message, name)
        for index, item in enumerate(cast("list[Any]", value)):
            where = f"{path}[{index}]"
            if item is None and not takes_null:
                problems.add(where, "type", "a list may not hold null")
            elif convert is None:
                reader(cast("Descriptor", entry))(item, target.add(), where, problems, depth)
            else:
                try:
                    target.append(convert(item))
                except WrongValueError as error:
                    problems.add(where, error.rule, str(error))

    return assign


def _map_setter(field: FieldDescriptor, entry: Descriptor) -> Reader:
    name, key_field, value_field = field.name, entry.fields_by_name["key"], entry.fields_by_name["value"]
    to_key = scalar(key_field)
    is_bool = key_field.cpp_type == FieldDescriptor.CPPTYPE_BOOL
    convert = None if value_field.message_type is not None else scalar(value_field)
    takes_null = value_field.message_type is not None and (
        value_field.message_type.full_name == "google.protobuf.Value"
    )

    def assign(value: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            problems.add(path, "type", f"expected an object, got {kind_of(value)}")
            return
        target = getattr(message, name)
        for name_of, item in cast("dict[str, Any]", value).items():
            where = f"{path}[{json.dumps(name_of, ensure_ascii=False)}]"
            try:
                key = to_key({"true": True, "false": False}.get(name_of, name_of) if is_bool else name_of)
                if item is None and not takes_null:
                    problems.add(where, "type", "a map may not hold null")
                elif convert is None:
                    reader(cast("Descriptor", value_field.message_type))(item, target[key], where, problems, depth)
                else:
                    target[key] = convert(item)
            except WrongValueError as error:
                problems.add(where, error.rule, str(error))

    return assign


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _struct(plain: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
    if not isinstance(plain, dict):
        problems.add(path, "type", f"expected an object, got {kind_of(plain)}")
        return
    for key, item in cast("dict[str, Any]", plain).items():
        if has_surrogate(key):
            problems.add(path, "unicode", "a name holds half of a surrogate pair")
            continue
        _value(item, message.fields[key], f"{path}[{json.dumps(key, ensure_ascii=False)}]", problems, depth + 1)


def _value(plain: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
    if depth > _MAX_DEPTH:
        problems.add(path, "depth", f"nested more than {_MAX_DEPTH} deep")
        return
    match plain:
        case None:
            message.null_value = 0
        case bool():
            message.bool_value = plain
        case int() | float():
            # A Value holds doubles only. What it would change silently, such as a 64-bit id, is refused.
            if isinstance(plain, int) and abs(plain) > _EXACT_DOUBLE and not _is_exact(plain):
                problems.add(path, "range", "a whole number beyond 2^53 is not kept exactly; send it as a string")
            elif not math.isfinite(plain):
                problems.add(path, "range", "is larger than any number")
            else:
                message.number_value = plain
        case str():
            if has_surrogate(plain):
                problems.add(path, "unicode", "holds half of a surrogate pair")
            else:
                message.string_value = plain
        case list():
            message.list_value.SetInParent()
            _list(cast("Any", plain), message.list_value, path, problems, depth)
        case _:
            message.struct_value.SetInParent()
            _struct(plain, message.struct_value, path, problems, depth)


def _is_exact(number: int) -> bool:
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


def _list(plain: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
    if not isinstance(plain, list):
        problems.add(path, "type", f"expected a list, got {kind_of(plain)}")
        return
    for index, item in enumerate(cast("list[Any]", plain)):
        _value(item, message.values.add(), f"{path}[{index}]", problems, depth + 1)


def _from_text(what: str) -> Reader:
    """Return the reader of a type that JSON writes as a string and protobuf itself can read."""

    def fill(plain: Any, message: Message, path: str, problems: Problems, depth: int) -> None:
        del depth
        try:
            message.FromJsonString(text(plain))
        except (WrongValueError, ValueError, OverflowError):
            problems.add(path, "format", f"expected {what}")

    return fill


_WELL_KNOWN: dict[str, Reader] = {
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _value,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Timestamp": _from_text("a moment in RFC 3339, such as 2026-01-31T12:00:00Z"),
    "google.protobuf.Duration": _from_text('a duration in seconds, such as "1.5s"'),
}
