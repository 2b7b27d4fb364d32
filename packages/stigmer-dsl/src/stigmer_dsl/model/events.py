"""CloudEvents in the language: properties of events, filters, correlation, and what to wait for."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Tag, model_validator
from pydantic_core import PydanticCustomError

from stigmer_dsl.model.element import Choice, Element, Text, by_shape


class EventProperties(Element):
    """Attributes of an event, standard and extension ones; values may be expressions."""

    model_config = ConfigDict(extra="allow")

    id: Text | None = None
    source: Text | None = None
    type: Text | None = None
    time: Text | None = None
    subject: Text | None = None
    datacontenttype: Text | None = None
    dataschema: Text | None = None
    data: Any = None

    def attributes(self) -> dict[str, Any]:
        """Every attribute that the document names, extension attributes included."""
        return self.to_dict()


class Correlation(Element):
    """A value taken from an event, and what it must equal."""

    from_: Text
    expect: Text | None = None
    """A constant or an expression; without it the first value seen is the expectation."""


class EventFilter(Element):
    """Which events count: by attributes (texts are regular expressions, or expressions) and by correlations."""

    with_: EventProperties
    correlate: dict[str, Correlation] | None = None

    @model_validator(mode="after")
    def _filters_something(self) -> Self:
        self.with_.require_something("needs at least one attribute to filter by")
        return self


class EventConsumption(Choice):
    """Which events to wait for: one, all, or any of several."""

    one_of = (("all", "any", "one"),)

    all: tuple[EventFilter, ...] | None = None
    any: tuple[EventFilter, ...] | None = None
    """Any of these; every event where the list is empty."""
    one: EventFilter | None = None
    until: "ConsumeUntil | None" = None
    """With `any`: go on consuming until this condition holds, or until these events are consumed."""

    @model_validator(mode="after")
    def _until_of_any(self) -> Self:
        if self.until is not None and self.any is None:
            raise PydanticCustomError("until", "has `until`, which goes with `any` only")
        if isinstance(self.until, EventConsumption) and self.until.until is not None:
            raise PydanticCustomError("until", "has an `until` with an `until` of its own")
        return self

    @property
    def strategy(self) -> Literal["all", "any", "one"]:
        """Which of the three it is."""
        if self.one is not None:
            return "one"
        return "all" if self.all is not None else "any"

    @property
    def filters(self) -> tuple[EventFilter, ...]:
        """The filters, whichever strategy holds them."""
        if self.one is not None:
            return (self.one,)
        return (self.all if self.all is not None else self.any) or ()


ConsumeUntil: TypeAlias = Annotated[
    Annotated[EventConsumption, Tag("<object>")] | Annotated[Text, Tag("<text>")],
    by_shape("an expression, or the events that end the listening"),
]
EventConsumption.model_rebuild()


class EmittedEvent(Element):
    """The event that an emit task publishes."""

    with_: EventProperties

    @model_validator(mode="after")
    def _has_a_type(self) -> Self:
        if self.with_.type is None:
            raise PydanticCustomError("incomplete", "needs `type` among the attributes of the event")
        return self


class EmitConfiguration(Element):
    """What an emit task does."""

    event: EmittedEvent
