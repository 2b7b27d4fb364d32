"""What every element of the language shares: naming, strictness, and the way alternatives are told apart.

Owns the base class, the strict scalar types and the discriminators. Knows no element of the language.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Strict,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text: TypeAlias = Annotated[str, Strict()]
Whole: TypeAlias = Annotated[int, Strict(), BeforeValidator(_whole)]
"""A whole number; 3.0 is one to JSON, too."""
EXPRESSION = r"^\s*\$\{[\s\S]+\}\s*$"
ExpressionText: TypeAlias = Annotated[Text, Field(pattern=EXPRESSION)]
"""A text that is one expression, where any other text would be of no use."""
Flag: TypeAlias = Annotated[bool, Strict()]
Mapped: TypeAlias = dict[str, Any]
"""A JSON object whose content the language leaves to the author; may hold expressions at any depth."""


def wire_name(name: str) -> str:
    """The name of a field in a document: `except_when` is `exceptWhen`, `if_` is `if`."""
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(part.capitalize() for part in rest)


def _refuse_nulls(schema: Any) -> None:
    """Let a field that may be missing be None then, and then only."""
    while schema["type"] != "model-fields":
        schema = schema["schema"]
    for field in schema["fields"].values():
        inner = field["schema"]
        if inner["type"] == "default" and inner["schema"]["type"] == "nullable":
            inner["schema"] = core_schema.no_info_before_validator_function(_refuse_null, inner["schema"])


def _refuse_null(value: object) -> object:
    if value is None:
        raise PydanticCustomError("null", "is empty: give it a value, or leave the key out")
    return value


class Element(BaseModel):
    """A part of a document. Frozen; unknown keys are refused; keys are those of the language."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=wire_name,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        # A document that says null has left a value out, by mistake as a rule; the specification allows it nowhere.
        schema = handler(source)
        # A class that holds itself is met again while it is made; the first meeting counts.
        with contextlib.suppress(LookupError):
            _refuse_nulls(handler.resolve_ref_schema(schema))
        return schema

    def to_dict(self) -> dict[str, Any]:
        """The element as JSON: what the document says, in the canonical spelling, defaults left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def require_one_of(self, *fields: str) -> Self:
        """Refuse the element unless exactly one of `fields` is set."""
        given = [name for name in fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(wire_name(name) for name in fields)
            found = ", ".join(wire_name(name) for name in given) or "none"
            raise PydanticCustomError(
                "one-of", "needs exactly one of {names}; it has {found}", {"names": names, "found": found}
            )
        return self

    def require_something(self, message: str) -> Self:
        """Refuse an element that says nothing."""
        if not self.model_fields_set:
            raise PydanticCustomError("nothing", "{message}", {"message": message})
        return self


class Choice(Element):
    """An element that says exactly one of some things."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]]
    """The fields of which a document has exactly one; several groups of them hold side by side."""

    @model_validator(mode="after")
    def _choose(self) -> Self:
        for fields in self.one_of:
            self.require_one_of(*fields)
        return self


Shape: TypeAlias = Literal["<object>", "<text>", "<list>"]


def shape_of(value: object) -> Shape | None:
    """The JSON shape that picks an alternative; None where no alternative has it."""
    if isinstance(value, str):
        return "<text>"
    if isinstance(value, (Mapping, BaseModel)):
        return "<object>"
    if isinstance(value, (list, tuple)):
        return "<list>"
    return None


def by_shape(expected: str) -> Discriminator:
    """Tell alternatives apart by their JSON shape; `expected` completes "must be …"."""
    return Discriminator(
        shape_of,
        custom_error_type="shape",
        custom_error_message=f"must be {expected}",
    )


def by_value(field: str, tags: Mapping[str, str], otherwise: str) -> Callable[[object], str]:
    """Tell alternatives apart by the value of one field; anything not in `tags` is `otherwise`."""

    def tag(value: object) -> str:
        said = cast("Mapping[str, object]", value).get(field) if isinstance(value, Mapping) else getattr(value, field)
        return tags.get(said, otherwise) if isinstance(said, str) else otherwise

    return tag


def entry_of(field: str) -> Callable[[object], object]:
    """Read `{name: content}`, the way the language writes one entry of an ordered list.

    The result has the keys `name` and `field`, which is how the model holds an entry.
    """

    def read(value: object) -> object:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("entry", "must be an object with one key, the name")
        pairs = list(cast("Mapping[str, object]", value).items())
        if len(pairs) != 1:
            found = ", ".join(repr(key) for key, _ in pairs) or "none"
            raise PydanticCustomError(
                "entry", "must have exactly one key, the name; it has {found}", {"found": found, "count": len(pairs)}
            )
        return {"name": pairs[0][0], field: pairs[0][1]}

    return read
