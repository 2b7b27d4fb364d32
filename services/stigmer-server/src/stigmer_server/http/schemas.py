"""JSON Schemas of messages, made from their descriptors: types, comments, and the rules of buf.validate.

What a rule says that a schema cannot say (CEL) is in the description. Schemas name fields in camelCase, as answers do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from stigmer_protos import descriptors

Schema: TypeAlias = dict[str, Any]

_PREFIX = "ai.stigmer."
_INTEGERS: Mapping[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "int32", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "format": "int64", "pattern": "^[0-9]+$"},
}
_NUMBER: Schema = {"oneOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {"description": "Any JSON value."},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Empty": {"type": "object", "properties": {}, "additionalProperties": False},
}
_RULE_NAMES: Mapping[str, str] = {
    "min_len": "minLength",
    "max_len": "maxLength",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_pairs": "minProperties",
    "max_pairs": "maxProperties",
    "gte": "minimum",
    "lte": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "const": "const",
    "pattern": "pattern",
}


class Schemas:
    """The schemas of messages, each made once and referred to by its name."""

    def __init__(self, comments: Mapping[str, str]) -> None:
        self._comments = comments
        self.made: dict[str, Schema] = {}
        """By the name under which they are referred to."""

    def reference(self, descriptor: Descriptor) -> Schema:
        """Return a reference to the schema of a message, and make it if it is not there yet."""
        known = _WELL_KNOWN.get(descriptor.full_name)
        if known is not None:
            return dict(known)
        name = descriptor.full_name.removeprefix(_PREFIX)
        if name not in self.made:
            self.made[name] = {}
            self.made[name].update(self._message(descriptor))
        return {"$ref": f"#/components/schemas/{name}"}

    def field(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field, with its comment and its rules."""
        rules = rules_of(field)
        schema = self._value(field, rules)
        comment = self._comments.get(field.full_name, "")
        told = " ".join([comment, *(f"Rule {rule.id}: {rule.message}." for rule in rules.cel)]).strip()
        return {**schema, "description": told} if told else schema

    def comment(self, full_name: str) -> str:
        """Return what the sources say of something; "" when they say nothing."""
        return self._comments.get(full_name, "")

    def _message(self, descriptor: Descriptor) -> Schema:
        fields = list(descriptor.fields)
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(field) for field in fields},
            "additionalProperties": False,
        }
        if required := [field.json_name for field in fields if is_required(field)]:
            schema["required"] = required
        if both := _exclusive(descriptor):
            schema["not"] = {"anyOf": both}
        if needed := _needed(descriptor):
            schema["allOf"] = needed
        if comment := self.comment(descriptor.full_name):
            schema["description"] = comment
        return schema

    def _value(self, field: FieldDescriptor, rules: Any) -> Schema:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            values = self._single(entry.fields_by_name["value"], rules.map.values)
            return {"type": "object", "additionalProperties": values, **_limits(rules.map)}
        if field.is_repeated:
            schema: Schema = {"type": "array", "items": self._single(field, rules.repeated.items)}
            return {**schema, **_limits(rules.repeated)}
        return self._single(field, rules)

    def _single(self, field: FieldDescriptor, rules: Any) -> Schema:
        if field.message_type is not None:
            return self.reference(field.message_type)
        kind = rules.WhichOneof("type")
        limits = _limits(getattr(rules, kind)) if kind else {}
        if field.enum_type is not None:
            return {"type": "string", "enum": _names(field.enum_type, without_zero=rules.required)}
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return {"type": "boolean"}
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return {"type": "string", "contentEncoding": "base64"}
            case FieldDescriptor.CPPTYPE_STRING:
                least = {"minLength": 1} if rules.required and not field.is_repeated else {}
                return {"type": "string", **least, **limits}
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return dict(_NUMBER)
            case _:
                return {**_INTEGERS[field.cpp_type], **limits}


def rules_of(field: FieldDescriptor) -> Any:
    """Return the rules of buf.validate for a field; empty ones when it has none."""
    options: Any = descriptors.message_type("google.protobuf.FieldOptions").FromString(
        field.GetOptions().SerializeToString()
    )
    return options.Extensions[descriptors.pool().FindExtensionByName("buf.validate.field")]


def is_required(field: FieldDescriptor) -> bool:
    """Whether a message without the field breaks a rule of it. A field without presence is then as good as empty."""
    rules = rules_of(field)
    if rules.required:
        return True
    kind = rules.WhichOneof("type")
    if kind is None or (field.has_presence and kind not in ("repeated", "map")):
        return False
    said = {rule.name: value for rule, value in getattr(rules, kind).ListFields()}
    if isinstance(said.get("pattern"), str) and not re.search(said["pattern"], ""):
        return True
    return bool(
        any(said.get(name) for name in ("min_len", "min_items", "min_pairs", "const"))
        or said.get("gte", 0) > 0
        or said.get("gt", -1) >= 0
        or said.get("lte", 0) < 0
        or said.get("lt", 1) <= 0
    )


def _limits(rules: Any) -> Schema:
    found: Schema = {}
    for field, value in rules.ListFields():
        name = _RULE_NAMES.get(field.name)
        if name is not None:
            found[name] = value
        elif field.name == "in":
            found["enum"] = list(value)
    return found


def _names(enum: EnumDescriptor, *, without_zero: bool) -> list[str]:
    values = cast("Any", enum.values)
    return [value.name for value in values if value.number or not without_zero]


def _exclusive(descriptor: Descriptor) -> list[Schema]:
    """Return the pairs of fields of which only one may be there."""
    pairs: list[Schema] = []
    for oneof in descriptor.oneofs:
        names = [field.json_name for field in oneof.fields]
        pairs += [{"required": [one, other]} for at, one in enumerate(names) for other in names[at + 1 :]]
    return pairs


def _needed(descriptor: Descriptor) -> list[Schema]:
    """Return, for each group of fields of which one must be there, the schema that says so."""
    found: list[Schema] = []
    for oneof in descriptor.oneofs:
        options: Any = descriptors.message_type("google.protobuf.OneofOptions").FromString(
            oneof.GetOptions().SerializeToString()
        )
        if options.Extensions[descriptors.pool().FindExtensionByName("buf.validate.oneof")].required:
            found.append({"anyOf": [{"required": [field.json_name]} for field in oneof.fields]})
    return found
