"""Arguments of the functions that we have beside those of the specification."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, Tag, model_validator
from pydantic_core import PydanticCustomError

from stigmer_dsl.model.calls import Listed
from stigmer_dsl.model.element import Choice, Element, ExpressionText, Flag, Text, Whole, by_shape
from stigmer_dsl.model.values import DurationLike, Endpoint, Schema, Transformation


class AgentBudget(Element):
    """What one agent run may use up; a bound that is not said is the agent's."""

    max_model_calls: Annotated[Whole, Field(ge=0)] | None = None
    max_tokens: Annotated[Whole, Field(ge=0)] | None = None
    max_cost_usd: Annotated[float, Field(ge=0)] | None = None
    """In US dollars."""
    max_seconds: Annotated[Whole, Field(ge=0)] | None = None
    """Of work; waiting for people does not count."""


class AgentConfiguration(Element):
    """Settings of one agent run."""

    model: Text | None = None
    timeout: Annotated[Whole, Field(ge=0, le=3600)] | None = None
    """Seconds; 0 is the same as not said."""
    temperature: Annotated[float, Strict(), Field(ge=0, le=1)] | None = None
    fallback_models: tuple[Text, ...] | None = None
    """Models that answer when the one before them cannot."""
    budget: AgentBudget | None = None


class AgentFile(Element):
    """A file for an agent's workspace."""

    path: Annotated[Text, Field(min_length=1, max_length=1024)]
    """Where it goes: names separated by slashes, or an expression."""
    content: Any
    """A text as it is; anything else becomes JSON."""
    encoding: Literal["text", "json", "base64"] | None = None
    """What `content` is; what it looks like, unless said."""


class AgentArguments(Element):
    """A message to one of our agents."""

    agent: Annotated[Text, Field(min_length=1, max_length=63)]
    """The agent's slug, or an expression."""
    scope: Literal["platform", "organization"] = "organization"
    message: Annotated[Text, Field(min_length=1)]
    env: dict[str, Text] | None = None
    config: AgentConfiguration | None = None
    session: Text | None = None
    """Id of a session to go on with; one of its own unless said."""
    files: (
        Annotated[
            Annotated[tuple[AgentFile, ...], Tag("<list>")] | Annotated[ExpressionText, Tag("<text>")],
            by_shape("a list of files, or an expression that gives one"),
        ]
        | None
    ) = None
    """Files that the agent finds in its workspace."""
    response: Schema | None = None
    """What the answer must look like; without it, what the agent says of that, or a text."""
    collect: Annotated[tuple[Annotated[Text, Field(min_length=1)], ...], Field(min_length=1)] | None = None
    """Paths, and patterns of paths, of files that the agent makes, whose content the output is to have."""
    output: Literal["content", "execution"] = "content"
    """The answer, or an object with the answer as `output`, and `id`, `session`, `usage` and `files` of the execution.
    """

    @model_validator(mode="after")
    def _collects_into_something(self) -> Self:
        if self.collect is not None and self.output != "execution":
            raise PydanticCustomError("collect", "has `collect`, which goes with `output: execution` only")
        return self


class ActivityArguments(Element):
    """A Temporal activity of another worker."""

    name: Annotated[Text, Field(min_length=1)]
    arguments: Listed | None = None
    task_queue: Text | None = None
    """The queue its worker listens on; the runner's own unless said."""


class HumanInputArguments(Element):
    """A question to a person; the workflow waits for the answer."""

    message: Annotated[Text, Field(min_length=1)]
    outcomes: Annotated[tuple[Text, ...], Field(min_length=1)] = ("approve", "reject")
    """What the person may choose from."""
    form: Schema | None = None
    """What the data sent with the answer must look like."""
    assignees: tuple[Text, ...] | None = None
    """Ids of those who may answer; everybody who may change the execution, unless said."""
    deadline: DurationLike | None = None
    """How long the answer is waited for; for ever, unless said."""
    default: Text | None = None
    """The outcome when the deadline has passed; without it that is a timeout error."""

    @model_validator(mode="after")
    def _default_has_its_time(self) -> Self:
        if self.default is not None and self.deadline is None:
            raise PydanticCustomError("default", "has `default`, which goes with `deadline` only")
        return self


class LlmMessage(Element):
    """What somebody said in a conversation with a model."""

    role: Literal["user", "assistant"]
    content: Annotated[Text, Field(min_length=1)]


class LlmCallArguments(Choice):
    """A question to a model, without an agent around it."""

    one_of = (("prompt", "messages"),)

    prompt: Annotated[Text, Field(min_length=1)] | None = None
    messages: (
        Annotated[
            Annotated[tuple[LlmMessage, ...], Field(min_length=1), Tag("<list>")]
            | Annotated[ExpressionText, Tag("<text>")],
            by_shape("a list of messages, or an expression"),
        ]
        | None
    ) = None
    """A conversation in place of the prompt, or an expression that gives one."""
    system: Text | None = None
    """What the model is told about itself first."""
    model: Text | None = None
    """`provider:model`; the execution's or the runner's own unless said."""
    temperature: Annotated[float, Strict(), Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    timeout: Annotated[Whole, Field(ge=0, le=3600)] | None = None
    """Seconds; 0 is the same as not said."""
    response: Schema | None = None
    """What the answer must look like; without it the answer is a text."""
    output: Literal["content", "all"] = "content"
    """The answer, or an object with the answer as `content`, the `model` and what it has used up as `usage`."""


class TransformArguments(Element):
    """Data in another form."""

    input: Any = None
    """What is transformed; the task's input unless said."""
    as_: Transformation
    """An expression on it, or an object with expressions in it."""


class ValidateArguments(Element):
    """A check of data; the task outputs the data, or faults with a validation error."""

    report: Flag = False
    """Whether the task outputs `{valid, violations}` instead, and does not fault."""

    input: Any = None
    """What is checked; the task's input unless said."""
    schema_: Schema


class NotificationArguments(Element):
    """A message to people or programs outside."""

    message: Annotated[Text, Field(min_length=1)]
    title: Text | None = None
    level: Literal["info", "warning", "error"] = "info"
    recipients: tuple[Text, ...] | None = None
    data: Any = None
    endpoint: Endpoint | None = None
    """Where it is posted as JSON; without it, it is published as an event."""


class EvalArguments(Element):
    """A judgement of data: whether, and how well, it meets criteria. By expressions, else by a model."""

    report: Flag = False
    """Whether the task outputs its judgement also of data that does not pass, and does not fault."""

    input: Any = None
    """What is judged; the task's input unless said."""
    criteria: Annotated[
        Annotated[Text, Field(min_length=1), Tag("<text>")]
        | Annotated[tuple[Text, ...], Field(min_length=1), Tag("<list>")],
        by_shape("a text, or a list of texts"),
    ]
    """Sentences for the model, and expressions on what is judged: they give true, false, a score, or a sentence."""
    model: Text | None = None
    """`provider:model`; the execution's or the runner's own unless said."""
    timeout: Annotated[Whole, Field(ge=0, le=3600)] | None = None
    """Seconds that the model may take; 0 is the same as not said."""
    threshold: Annotated[float, Strict(), Field(ge=0, le=1)] | None = None
    """The score from which on the data passes; below it the task faults. Without it every score passes."""
