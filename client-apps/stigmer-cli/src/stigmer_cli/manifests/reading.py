"""From plain data to the shape of a message: every field checked, every problem kept, nothing guessed.

protobuf's own JSON parser stops at the first mistake and cannot say where it stands, so it only gets what was found
sound here.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from stigmer_dsl.stored import kind_name

from stigmer_cli.kinds import nearest, suggest
from stigmer_cli.plain import Json, is_list, is_object

Field: TypeAlias = Any
"""A FieldDescriptor; the stubs of its optional parts say less than the code here knows."""

_INTEGER_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_TEXT_FORM = {"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"}
_NOTHING = object()


@dataclass(slots=True)
class Mistake:
    """A value that does not fit the message."""

    pointer: str
    """JSON pointer of the value, or of the key when `at_key`."""
    message: str
    hint: str = ""
    path: str = ""
    """Path of the field that the mistake leaves without a sound value, when it is known."""


@dataclass(slots=True)
class Reading:
    """One document being read into the shape of one message."""

    mistakes: list[Mistake] = field(default_factory=list[Mistake])
    pointers: dict[str, str] = field(default_factory=dict[str, str])
    """Path of a field as protovalidate writes it (`spec.tasks[0].name`) to its JSON pointer in the document."""

    def message(self, descriptor: Descriptor, value: Json, pointer: str = "", path: str = "") -> dict[str, Json]:
        """Return the sound part of the value in proto-JSON."""
        self.pointers[path] = pointer
        if not is_object(value):
            self._expected("an object", value, pointer)
            return {}
        fields = _fields_by_spelling(descriptor)
        sound: dict[str, Json] = {}
        for name, item in value.items():
            place = f"{pointer}/{escape(name)}"
            found = fields.get(name)
            if found is None:
                near = nearest(name, sorted({known.name for known in fields.values()}))
                meant = f"{path}.{near or name}".removeprefix(".")
                hint = f"did you mean `{near}`?" if near else ""
                self.mistakes.append(Mistake(place, f"{descriptor.name} has no field {name!r}", hint, meant))
            elif found.name in sound:
                self.mistakes.append(Mistake(place, f"the field {found.name!r} is given twice"))
            elif item is not None:
                read = self._field(found, item, place, f"{path}.{found.name}" if path else found.name)
                if read is not _NOTHING:
                    sound[found.name] = read
        return sound

    def hides(self, path: str) -> bool:
        """Whether a rule about the field would only tell again what a mistake has told."""
        return any(
            mistake.path and (path == mistake.path or path.startswith((f"{mistake.path}.", f"{mistake.path}[")))
            for mistake in self.mistakes
        )

    def _field(self, found: Field, value: Json, pointer: str, path: str) -> Json:
        self.pointers[path] = pointer
        before = len(self.mistakes)
        read = self._any(found, value, pointer, path)
        for mistake in self.mistakes[before:]:
            mistake.path = mistake.path or path
        return read

    def _any(self, found: Field, value: Json, pointer: str, path: str) -> Json:
        if _is_map(found):
            return self._map(found, value, pointer, path)
        if found.is_repeated:
            return self._list(found, value, pointer, path)
        return self._one(found, value, pointer, path)

    def _map(self, found: Field, value: Json, pointer: str, path: str) -> Json:
        if not is_object(value):
            return self._expected("an object", value, pointer)
        values = found.message_type.fields_by_name["value"]
        sound: dict[str, Json] = {}
        for name, item in value.items():
            place = f"{path}[{json.dumps(name, ensure_ascii=False)}]"
            self.pointers[place] = f"{pointer}/{escape(name)}"
            read = self._one(values, item, f"{pointer}/{escape(name)}", place)
            if read is not _NOTHING:
                sound[name] = read
        return sound

    def _list(self, found: Field, value: Json, pointer: str, path: str) -> Json:
        if not is_list(value):
            return self._expected("a list", value, pointer)
        sound: list[Json] = []
        for index, item in enumerate(value):
            place = f"{path}[{index}]"
            self.pointers[place] = f"{pointer}/{index}"
            read = self._one(found, item, f"{pointer}/{index}", place)
            sound.append({} if read is _NOTHING and found.message_type else read)
        return [item for item in sound if item is not _NOTHING]

    def _one(self, found: Field, value: Json, pointer: str, path: str) -> Json:
        match found.cpp_type:
            case FieldDescriptor.CPPTYPE_MESSAGE:
                return self._submessage(found.message_type, value, pointer, path)
            case FieldDescriptor.CPPTYPE_ENUM:
                return self._enum(found.enum_type, value, pointer)
            case FieldDescriptor.CPPTYPE_STRING if found.type == FieldDescriptor.TYPE_BYTES:
                return self._bytes(value, pointer)
            case FieldDescriptor.CPPTYPE_STRING:
                return self._string(value, pointer)
            case FieldDescriptor.CPPTYPE_BOOL:
                return value if isinstance(value, bool) else self._expected("true or false", value, pointer)
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return float(value) if _is_number(value) else self._expected("a number", value, pointer)
            case _:
                return self._integer(found, value, pointer)

    def _submessage(self, descriptor: Descriptor, value: Json, pointer: str, path: str) -> Json:
        name = descriptor.full_name
        if name == "google.protobuf.Value":
            return value
        if name == "google.protobuf.Struct":
            return value if is_object(value) else self._expected("an object", value, pointer)
        if name == "google.protobuf.ListValue":
            return value if is_list(value) else self._expected("a list", value, pointer)
        if name in _TEXT_FORM:
            return value if isinstance(value, str) else self._expected("a text", value, pointer)
        return self.message(descriptor, value, pointer, path)

    def _enum(self, descriptor: EnumDescriptor, value: Json, pointer: str) -> Json:
        if isinstance(value, str):
            if name := _enum_name(descriptor, value):
                return name
            hint = suggest(value, list(descriptor.values_by_name))
            known = ", ".join(item.name for item in descriptor.values if item.number)
            message = f"{descriptor.name} has no value {value!r}"
            self.mistakes.append(Mistake(pointer, message, hint or f"values: {known}"))
            return _NOTHING
        if _is_whole(value) and int(value) in descriptor.values_by_number:
            return descriptor.values_by_number[int(value)].name
        return self._expected(f"a value of {descriptor.name}", value, pointer)

    def _string(self, value: Json, pointer: str) -> Json:
        if isinstance(value, str):
            return value
        hint = f'write it in quotes: "{_plain(value)}"' if not isinstance(value, (dict, list)) else ""
        return self._expected("a text", value, pointer, hint=hint)

    def _bytes(self, value: Json, pointer: str) -> Json:
        if not isinstance(value, str):
            return self._expected("bytes as base64", value, pointer)
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            return self._expected("bytes as base64", value, pointer)
        return value

    def _integer(self, found: Field, value: Json, pointer: str) -> Json:
        low, high = _INTEGER_BITS[found.cpp_type]
        if not _is_whole(value):
            return self._expected("a whole number", value, pointer)
        if not low <= int(value) <= high:
            return self._expected(f"a whole number from {low} to {high}", value, pointer)
        return int(value)

    def _expected(self, what: str, value: Json, pointer: str, *, hint: str = "") -> Json:
        self.mistakes.append(Mistake(pointer, f"expected {what}, got {_describe(value)}", hint))
        return _NOTHING


def escape(key: str) -> str:
    """Return a key as it stands in a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _fields_by_spelling(descriptor: Descriptor) -> dict[str, Field]:
    return {spelling: found for found in descriptor.fields for spelling in (found.name, found.json_name)}


def _is_map(found: Field) -> bool:
    return found.message_type is not None and found.message_type.GetOptions().map_entry


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Json) -> bool:
    return _is_number(value) and math.isfinite(value) and value == int(value)


def _enum_name(descriptor: EnumDescriptor, text: str) -> str:
    """Return the enum's name for a spelling of it; case and the prefix that all names share do not matter."""
    if descriptor.name == "WorkflowTaskKind":
        text = kind_name(text) or text
    wanted = text.upper()
    shared = _shared_prefix([name.upper() for name in descriptor.values_by_name])
    for name in descriptor.values_by_name:
        if wanted in {name.upper(), name.upper().removeprefix(shared)}:
            return name
    return ""


def _shared_prefix(names: list[str]) -> str:
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("_", 0, length) + 1]


def _plain(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _describe(value: Json) -> str:
    descriptions: list[tuple[type, Callable[[Json], str]]] = [
        (bool, _plain),
        (dict, lambda _: "an object"),
        (list, lambda _: "a list"),
        (str, lambda item: f"the text {item if len(item) <= 40 else item[:37] + '...'!r}"),
        (int, lambda item: f"the number {item}"),
        (float, lambda item: f"the number {item}"),
    ]
    return next((describe(value) for kind, describe in descriptions if isinstance(value, kind)), "nothing")
