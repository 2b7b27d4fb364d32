"""A whole document: header, reusable components, tasks, schedule."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from stigmer_dsl.model.authentication import AuthenticationPolicy
from stigmer_dsl.model.element import Element, Mapped, Text, entry_of
from stigmer_dsl.model.events import EventConsumption
from stigmer_dsl.model.tasks import Task, TaskList
from stigmer_dsl.model.values import (
    DurationLike,
    Endpoint,
    ErrorDefinition,
    Input,
    Output,
    ReadAs,
    RetryPolicy,
    Timeout,
    TimeoutLike,
)

_NUMBER = r"(0|[1-9]\d*)"
_BEFORE = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = (
    rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_BEFORE}(?:\.{_BEFORE})*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)
_LABEL = r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$"

Version: TypeAlias = Annotated[Text, Field(pattern=_VERSION)]
Label: TypeAlias = Annotated[Text, Field(pattern=_LABEL)]


class Document(Element):
    """The header: what the workflow is."""

    dsl: Version
    namespace: Label
    name: Label
    version: Version
    title: Text | None = None
    summary: Text | None = None
    tags: Mapped | None = None
    metadata: Mapped | None = None


class Extension(Element):
    """Tasks done before and after every task of a kind."""

    extend: Literal["call", "composite", "emit", "for", "listen", "raise", "run", "set", "switch", "try", "wait", "all"]
    when: Text | None = None
    before: TaskList | None = None
    after: TaskList | None = None


class ExtensionItem(Element):
    """One named extension."""

    name: Text
    extension: Extension

    @model_serializer(mode="wrap")
    def _as_entry(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.name: handler(self)["extension"]}


class Catalog(Element):
    """A collection of functions that stands somewhere else."""

    endpoint: Endpoint


class Use(Element):
    """Components that the document defines once and uses by name."""

    authentications: dict[str, AuthenticationPolicy] = Field(default_factory=dict)
    errors: dict[str, ErrorDefinition] = Field(default_factory=dict)
    extensions: tuple[Annotated[ExtensionItem, BeforeValidator(entry_of("extension"))], ...] = ()
    functions: dict[str, Task] = Field(default_factory=dict)
    retries: dict[str, RetryPolicy] = Field(default_factory=dict)
    secrets: tuple[Text, ...] = ()
    timeouts: dict[str, Timeout] = Field(default_factory=dict)
    catalogs: dict[str, Catalog] = Field(default_factory=dict)


class Schedule(Element):
    """When the workflow starts by itself."""

    every: DurationLike | None = None
    cron: Text | None = None
    after: DurationLike | None = None
    on: EventConsumption | None = None
    read: ReadAs | None = None
    """How events of `on` are read; `data` unless said."""

    @model_validator(mode="after")
    def _has_a_trigger(self) -> Self:
        if all(trigger is None for trigger in (self.every, self.cron, self.after, self.on)):
            raise PydanticCustomError("schedule", "needs one of every, cron, after, on")
        if self.read is not None and self.on is None:
            raise PydanticCustomError("schedule", "has `read` without `on`")
        return self


class Evaluate(Element):
    """How expressions are evaluated."""

    language: Text = "jq"
    mode: Literal["strict", "loose"] = "strict"


class Workflow(Element):
    """A document of the language."""

    document: Document
    input: Input | None = None
    use: Use = Use()
    do: TaskList
    timeout: TimeoutLike | None = None
    output: Output | None = None
    schedule: Schedule | None = None
    evaluate: Evaluate = Evaluate()


def load_trusted(value: Mapping[str, Any]) -> Workflow:
    """The workflow of a document that was parsed before, as `Workflow.to_dict` gave it.

    Structure is checked, meaning (references, expressions, names) is not.

    Raises:
        pydantic.ValidationError: The value is not what `to_dict` gives.
    """
    return Workflow.model_validate(value)
