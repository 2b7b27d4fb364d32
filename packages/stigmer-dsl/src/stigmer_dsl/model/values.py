"""Elements that tasks and workflows use in many places: durations, endpoints, schemas, data flow, errors, retries."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stigmer_dsl.model.authentication import Authentication
from stigmer_dsl.model.element import Choice, Element, Mapped, Text, Whole, by_shape


class Duration(Element):
    """A length of time, in parts."""

    days: Whole = 0
    hours: Whole = 0
    minutes: Whole = 0
    seconds: Whole = 0
    milliseconds: Whole = 0

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.model_fields_set:
            return self.require_one_of("days", "hours", "minutes", "seconds", "milliseconds")
        return self


DurationLike: TypeAlias = Annotated[
    Annotated[Duration, Tag("<object>")] | Annotated[Text, Tag("<text>")],
    by_shape("a duration: an object such as {seconds: 5}, an ISO 8601 text such as PT5S, or an expression"),
]
"""A duration in parts, an ISO 8601 text, or an expression that gives one."""


class Timeout(Element):
    """When to give up."""

    after: DurationLike


TimeoutLike: TypeAlias = Annotated[
    Annotated[Timeout, Tag("<object>")] | Annotated[Text, Tag("<text>")],
    by_shape("a timeout such as {after: {seconds: 30}}, or the name of one in use.timeouts"),
]
"""A timeout, or the name of one in `use.timeouts`."""


class EndpointConfiguration(Element):
    """Where to send a request, and how to authenticate there."""

    uri: Text
    """A URI, a URI template, or an expression."""
    authentication: Authentication | None = None
    _short: bool = PrivateAttr(default=False)

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, str):
            return handler(value)
        endpoint = handler({"uri": value})
        endpoint._short = True  # noqa: SLF001 - its own class
        return endpoint

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> Any:
        return self.uri if self._short else handler(self)


Endpoint: TypeAlias = EndpointConfiguration
"""An endpoint; a text is its `uri`, and is written as it was read."""


class ExternalResource(Element):
    """A document that stands somewhere else."""

    name: Text | None = None
    endpoint: Endpoint


class Schema(Element):
    """What data must look like: inline (`document`) or somewhere else (`resource`)."""

    format: Text = "json"
    """`json`, possibly followed by a colon and the draft: `json:2020-12`."""
    document: Any = None
    resource: ExternalResource | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if "document" in self.model_fields_set and self.document is None:
            raise PydanticCustomError("null", "has a `document` that is empty: give it a value, or leave the key out")
        return self.require_one_of("document", "resource")


Transformation: TypeAlias = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[Mapped, Tag("<object>")],
    by_shape("an expression, or an object with expressions in it"),
]
"""An expression, or an object with expressions in it."""


class Input(Element):
    """How raw input is checked, then transformed."""

    schema_: Schema | None = None
    from_: Transformation | None = None


class Output(Element):
    """How raw output is transformed, then checked."""

    schema_: Schema | None = None
    as_: Transformation | None = None


class Export(Element):
    """What replaces the context: evaluated on the transformed output, then checked."""

    schema_: Schema | None = None
    as_: Transformation | None = None


class ErrorDefinition(Element):
    """An error in the form of problem details (RFC 7807). Texts may be expressions."""

    type: Text
    status: Whole
    instance: Text | None = None
    title: Text | None = None
    detail: Text | None = None


class ErrorFilter(Element):
    """Static values that an error must have to be caught."""

    type: Text | None = None
    status: Whole | None = None
    instance: Text | None = None
    title: Text | None = None
    detail: Text | None = None

    @model_validator(mode="after")
    def _filters_something(self) -> Self:
        return self.require_something("needs at least one field to filter by")


class Backoff(Choice):
    """How the delay grows: not at all, by itself, or by doubling."""

    one_of = (("constant", "exponential", "linear"),)

    constant: Mapped | None = None
    exponential: Mapped | None = None
    linear: Mapped | None = None


class AttemptLimit(Element):
    """The limit of one attempt, and of their count."""

    count: Annotated[Whole, Field(ge=0)] | None = None
    duration: DurationLike | None = None


class RetryLimit(Element):
    """When to stop trying again."""

    attempt: AttemptLimit | None = None
    duration: DurationLike | None = None


class Jitter(Element):
    """The range of a random addition to the delay."""

    from_: DurationLike
    to: DurationLike


class RetryPolicy(Element):
    """Whether, when and how often a failed task is tried again."""

    when: Text | None = None
    except_when: Text | None = None
    delay: DurationLike | None = None
    backoff: Backoff | None = None
    limit: RetryLimit | None = None
    jitter: Jitter | None = None


RetryLike: TypeAlias = Annotated[
    Annotated[RetryPolicy, Tag("<object>")] | Annotated[Text, Tag("<text>")],
    by_shape("a retry policy, or the name of one in use.retries"),
]
"""A retry policy, or the name of one in `use.retries`."""

ErrorLike: TypeAlias = Annotated[
    Annotated[ErrorDefinition, Tag("<object>")] | Annotated[Text, Tag("<text>")],
    by_shape("an error such as {type: …, status: 400}, or the name of one in use.errors"),
]
"""An error, or the name of one in `use.errors`."""

OutputFormat: TypeAlias = Literal["raw", "content", "response"]
"""What an HTTP response becomes: base64 of the body, the parsed body, or the whole response."""
ReadAs: TypeAlias = Literal["data", "envelope", "raw"]
"""What a consumed event becomes: its data, its envelope with attributes, or its raw data."""
