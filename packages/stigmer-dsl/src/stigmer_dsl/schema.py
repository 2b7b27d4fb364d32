"""The JSON Schema of documents, made from the model.

It says what the structure of a document is: exactly what the model accepts. Meaning (references, expressions, the
forms of texts) is for `parse`.
"""

from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema

from stigmer_dsl.model import Workflow
from stigmer_dsl.model.element import Choice, Element, wire_name
from stigmer_dsl.model.tasks import CALLS

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_ENTRIES = {"TaskItem": "task", "SwitchItem": "case", "ExtensionItem": "extension"}


def _one_of(*names: str) -> dict[str, Any]:
    return {"oneOf": [{"required": [name]} for name in names]}


def _choices(kind: type[Element]) -> dict[str, Any]:
    """What a class says of fields of which there is exactly one."""
    groups = [_one_of(*map(wire_name, fields)) for fields in kind.one_of] if issubclass(kind, Choice) else []
    return groups[0] if len(groups) == 1 else {"allOf": groups} if groups else {}


def _any_of(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in names]}


def _unless_secret(*names: str) -> dict[str, Any]:
    return {"oneOf": [{"required": ["use"], "maxProperties": 1}, {"required": [*names], "properties": {"use": False}}]}


_RULES: dict[str, dict[str, Any]] = {
    "A2aArguments": _any_of("agentCard", "server"),
    "AgentArguments": {
        "if": {"required": ["collect"]},
        "then": {"required": ["output"], "properties": {"output": {"const": "execution"}}},
    },
    "BasicAuthentication": _unless_secret("username", "password"),
    "BearerAuthentication": _unless_secret("token"),
    "ContainerLifetime": {
        "if": {"properties": {"cleanup": {"const": "eventually"}}},
        "then": {"required": ["after"]},
        "else": {"not": {"required": ["after"]}},
    },
    "DigestAuthentication": _unless_secret("username", "password"),
    "Duration": {"minProperties": 1},
    "EmittedEvent": {"properties": {"with": {"required": ["type"]}}},
    "ErrorFilter": {"minProperties": 1},
    "EventConsumption": {
        "dependentRequired": {"until": ["any"]},
        "properties": {"until": {"not": {"type": "object", "required": ["until"]}}},
    },
    "EventFilter": {"properties": {"with": {"minProperties": 1}}},
    "HumanInputArguments": {"dependentRequired": {"default": ["deadline"]}},
    "OAuth2Authentication": _unless_secret("authority", "grant"),
    "OpenIdConnectAuthentication": _unless_secret("authority", "grant"),
    "Schedule": {**_any_of("every", "cron", "after", "on"), "dependentRequired": {"read": ["on"]}},
    "Schema": {**_one_of("document", "resource"), "properties": {"document": {"not": {"type": "null"}}}},
}
"""What the checks of a class say about which of its fields go together, beside the choices that it declares."""


class _Generator(GenerateJsonSchema):
    """Says `{name: content}` where the model keeps a name beside a content, and what no field says alone."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """The schema of one class of the model."""
        described = super().model_schema(schema)
        name = schema["cls"].__name__
        field = _ENTRIES.get(name)
        if field is not None:
            return _entry(described, field)
        rule = {**_choices(schema["cls"]), **_RULES.get(name, {})}
        fields = cast("dict[str, Any]", described.get("properties", {}))
        for key, inner in rule.get("properties", {}).items():
            fields[key] = {"allOf": [fields[key]], **inner}
        return {**described, **{key: value for key, value in rule.items() if key != "properties"}}

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        """A field that may be missing: never null in a document."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """A field with a default; None stands for no default."""
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def _entry(described: dict[str, Any], field: str) -> dict[str, Any]:
    fields = cast("dict[str, Any]", described["properties"])
    return {
        "type": "object",
        "title": described.get("title"),
        "description": described.get("description"),
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"minLength": fields["name"].get("minLength", 0)},
        "additionalProperties": fields[field],
    }


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of documents: it accepts what the model does. `parse` checks meaning, too."""
    schema = Workflow.model_json_schema(by_alias=True, schema_generator=_Generator, mode="validation")
    definitions = cast("dict[str, Any]", schema["$defs"])
    _accept_text(definitions, "EndpointConfiguration")
    # A call is of one kind: a built-in function is none of the document's own.
    definitions["CallFunctionTask"]["properties"]["call"]["not"] = {"enum": sorted(CALLS)}
    return {"$schema": DRAFT, **schema}


def _accept_text(definitions: dict[str, Any], name: str) -> None:
    """A text stands for this object."""
    definition = definitions[name]
    definitions[name] = {
        "title": definition.pop("title", name),
        "description": definition.pop("description", ""),
        "anyOf": [{"type": "string"}, definition],
    }
