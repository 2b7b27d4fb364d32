"""The JSON Schema of documents, made from the model."""

from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema

from stigmer_dsl.model import Workflow
from stigmer_dsl.model.tasks import CALLS

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_ENTRIES = {"TaskItem": "task", "SwitchItem": "case", "ExtensionItem": "extension"}


class _Generator(GenerateJsonSchema):
    """Says `{name: content}` where the model keeps a name beside a content."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """The schema of one class of the model."""
        described = super().model_schema(schema)
        field = _ENTRIES.get(schema["cls"].__name__)
        if field is None:
            return described
        content = cast("dict[str, Any]", described["properties"])[field]
        return {
            "type": "object",
            "title": described.get("title"),
            "description": described.get("description"),
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": content,
        }


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every valid document meets. It says less than `parse` checks."""
    schema = Workflow.model_json_schema(by_alias=True, schema_generator=_Generator, mode="validation")
    definitions = cast("dict[str, Any]", schema["$defs"])
    _accept_text(definitions, "EndpointConfiguration", "AuthenticationPolicy")
    # A call is of one kind: a built-in function is none of the document's own.
    definitions["CallFunctionTask"]["properties"]["call"]["not"] = {"enum": sorted(CALLS)}
    return {"$schema": DRAFT, **schema}


def _accept_text(definitions: dict[str, Any], *names: str) -> None:
    """A text stands for these objects: the URI of an endpoint, the name of a policy."""
    for name in names:
        definition = definitions[name]
        definitions[name] = {
            "title": definition.pop("title", name),
            "description": definition.pop("description", ""),
            "anyOf": [{"type": "string"}, definition],
        }
