"""The tasks of the language, and ordered lists of them.

A task is recognised by its key (`set`, `call`, `do` …), a call by the function that it names.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, cast

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

from stigmer_dsl.model.calls import (
    A2aArguments,
    AsyncApiArguments,
    AsyncApiSubscription,
    GrpcArguments,
    HttpArguments,
    McpArguments,
    OpenApiArguments,
    Values,
)
from stigmer_dsl.model.element import Element, Flag, Mapped, Text, by_shape, by_value, entry_of
from stigmer_dsl.model.events import EmitConfiguration, EventConsumption
from stigmer_dsl.model.own_calls import (
    ActivityArguments,
    AgentArguments,
    EvalArguments,
    HumanInputArguments,
    LlmCallArguments,
    NotificationArguments,
    TransformArguments,
    ValidateArguments,
)
from stigmer_dsl.model.processes import RunConfiguration
from stigmer_dsl.model.values import (
    DurationLike,
    ErrorFilter,
    ErrorLike,
    Export,
    Input,
    Output,
    ReadAs,
    RetryLike,
    TimeoutLike,
)

FlowDirective: TypeAlias = Annotated[Text, Field(min_length=1)]
"""`continue`, `exit`, `end`, or the name of a task in the same list."""


class TaskBase(Element):
    """What every task has."""

    kind: ClassVar[str]
    """The kind in words a person reads: `set`, `for`, `call http` …"""

    if_: Text | None = None
    input: Input | None = None
    output: Output | None = None
    export: Export | None = None
    timeout: TimeoutLike | None = None
    then: FlowDirective | None = None
    metadata: Mapped | None = None


class CallHttpTask(TaskBase):
    """Send an HTTP request."""

    kind: ClassVar[str] = "call http"
    call: Literal["http"]
    with_: HttpArguments


class CallGrpcTask(TaskBase):
    """Call a gRPC service."""

    kind: ClassVar[str] = "call grpc"
    call: Literal["grpc"]
    with_: GrpcArguments


class CallOpenApiTask(TaskBase):
    """Call an operation described by OpenAPI."""

    kind: ClassVar[str] = "call openapi"
    call: Literal["openapi"]
    with_: OpenApiArguments


class CallAsyncApiTask(TaskBase):
    """Publish or consume messages described by AsyncAPI."""

    kind: ClassVar[str] = "call asyncapi"
    call: Literal["asyncapi"]
    with_: AsyncApiArguments


class CallA2aTask(TaskBase):
    """Call an agent that speaks Agent2Agent."""

    kind: ClassVar[str] = "call a2a"
    call: Literal["a2a"]
    with_: A2aArguments


class CallMcpTask(TaskBase):
    """Call an MCP server."""

    kind: ClassVar[str] = "call mcp"
    call: Literal["mcp"]
    with_: McpArguments


class CallAgentTask(TaskBase):
    """Run one of our agents and wait for its answer."""

    kind: ClassVar[str] = "call agent"
    call: Literal["agent"]
    with_: AgentArguments


class CallActivityTask(TaskBase):
    """Run a Temporal activity of another worker."""

    kind: ClassVar[str] = "call activity"
    call: Literal["activity"]
    with_: ActivityArguments


class CallHumanInputTask(TaskBase):
    """Ask a person, and wait for the answer."""

    kind: ClassVar[str] = "call human_input"
    call: Literal["human_input"]
    with_: HumanInputArguments


class CallLlmTask(TaskBase):
    """Ask a model."""

    kind: ClassVar[str] = "call llm_call"
    call: Literal["llm_call"]
    with_: LlmCallArguments


class CallTransformTask(TaskBase):
    """Bring data into another form."""

    kind: ClassVar[str] = "call transform"
    call: Literal["transform"]
    with_: TransformArguments


class CallValidateTask(TaskBase):
    """Check data against a schema."""

    kind: ClassVar[str] = "call validate"
    call: Literal["validate"]
    with_: ValidateArguments


class CallNotificationTask(TaskBase):
    """Tell people or programs outside."""

    kind: ClassVar[str] = "call notification"
    call: Literal["notification"]
    with_: NotificationArguments


class CallEvalTask(TaskBase):
    """Have a model judge data."""

    kind: ClassVar[str] = "call eval"
    call: Literal["eval"]
    with_: EvalArguments


class CallFunctionTask(TaskBase):
    """Call a function of `use.functions` or of a catalog (`name:version@catalog`)."""

    kind: ClassVar[str] = "call function"
    call: Annotated[Text, Field(min_length=1)]
    with_: Values | None = None


CALLS: dict[str, str] = {
    name: f"<call {name}>"
    for name in (
        *("http", "grpc", "openapi", "asyncapi", "a2a", "mcp"),
        *("agent", "activity", "human_input", "llm_call", "transform", "validate", "notification", "eval"),
    )
}
"""The built-in functions, and the tag of each."""

CallTask: TypeAlias = Annotated[
    Annotated[CallHttpTask, Tag("<call http>")]
    | Annotated[CallGrpcTask, Tag("<call grpc>")]
    | Annotated[CallOpenApiTask, Tag("<call openapi>")]
    | Annotated[CallAsyncApiTask, Tag("<call asyncapi>")]
    | Annotated[CallA2aTask, Tag("<call a2a>")]
    | Annotated[CallMcpTask, Tag("<call mcp>")]
    | Annotated[CallAgentTask, Tag("<call agent>")]
    | Annotated[CallActivityTask, Tag("<call activity>")]
    | Annotated[CallHumanInputTask, Tag("<call human_input>")]
    | Annotated[CallLlmTask, Tag("<call llm_call>")]
    | Annotated[CallTransformTask, Tag("<call transform>")]
    | Annotated[CallValidateTask, Tag("<call validate>")]
    | Annotated[CallNotificationTask, Tag("<call notification>")]
    | Annotated[CallEvalTask, Tag("<call eval>")]
    | Annotated[CallFunctionTask, Tag("<call function>")],
    Discriminator(by_value("call", CALLS, "<call function>")),
]


class SetTask(TaskBase):
    """Output the given data."""

    kind: ClassVar[str] = "set"
    set: Annotated[
        Annotated[Mapped, Field(min_length=1), Tag("<object>")] | Annotated[Text, Tag("<text>")],
        by_shape("an object, or an expression"),
    ]


class DoTask(TaskBase):
    """Do tasks in order."""

    kind: ClassVar[str] = "do"
    do: "TaskList"


class EmitTask(TaskBase):
    """Publish an event."""

    kind: ClassVar[str] = "emit"
    emit: EmitConfiguration


class ForConfiguration(Element):
    """What a loop iterates over, and the variables of an iteration."""

    each: Text = "item"
    in_: Annotated[
        Annotated[Text, Tag("<text>")] | Annotated[tuple[Any, ...], Tag("<list>")],
        by_shape("an expression, or a list"),
    ]
    at: Text = "index"


class ForTask(TaskBase):
    """Do tasks for each item of a collection, in order."""

    kind: ClassVar[str] = "for"
    for_: ForConfiguration
    while_: Text | None = None
    do: "TaskList"


class ForkConfiguration(Element):
    """Branches that run side by side."""

    branches: "TaskList"
    compete: Flag = False
    """Whether the first branch to finish wins and the others are cancelled."""


class ForkTask(TaskBase):
    """Do tasks side by side; output an array in the order of the branches, or the winner's output."""

    kind: ClassVar[str] = "fork"
    fork: ForkConfiguration


class SubscriptionIterator(Element):
    """What is done for each consumed event or message."""

    item: Text = "item"
    at: Text = "index"
    do: "TaskList | None" = None
    output: Output | None = None
    export: Export | None = None


class ListenConfiguration(Element):
    """What to wait for, and how events are read."""

    to: EventConsumption
    read: ReadAs = "data"


class ListenTask(TaskBase):
    """Wait for events; output the array of them."""

    kind: ClassVar[str] = "listen"
    listen: ListenConfiguration
    foreach: SubscriptionIterator | None = None


class RaiseConfiguration(Element):
    """The error to raise."""

    error: ErrorLike


class RaiseTask(TaskBase):
    """Raise an error."""

    kind: ClassVar[str] = "raise"
    raise_: RaiseConfiguration


class RunTask(TaskBase):
    """Run a container, a script, a shell command or another workflow."""

    kind: ClassVar[str] = "run"
    run: RunConfiguration


class SwitchCase(Element):
    """A condition, and where the flow goes if it holds; without a condition, the default."""

    when: Text | None = None
    then: FlowDirective


class SwitchItem(Element):
    """One named case of a switch."""

    name: Text
    case: SwitchCase

    @model_serializer(mode="wrap")
    def _as_entry(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.name: handler(self)["case"]}


class SwitchTask(TaskBase):
    """Go where the first case that holds says."""

    kind: ClassVar[str] = "switch"
    switch: Annotated[
        tuple[Annotated[SwitchItem, BeforeValidator(entry_of("case"))], ...],
        Field(min_length=1),
    ]


class CatchErrors(Element):
    """A static filter on errors."""

    with_: ErrorFilter | None = None


class Catch(Element):
    """Which errors a try task catches, and what it does about them."""

    errors: CatchErrors | None = None
    as_: Text = "error"
    """The variable that holds the caught error."""
    when: Text | None = None
    except_when: Text | None = None
    retry: RetryLike | None = None
    do: "TaskList | None" = None
    then: FlowDirective | None = None
    """Where the flow goes after an error was caught; the task's own `then` unless said."""


class TryTask(TaskBase):
    """Do tasks, and deal with their errors."""

    kind: ClassVar[str] = "try"
    try_: "TaskList"
    catch: Catch


class WaitTask(TaskBase):
    """Wait."""

    kind: ClassVar[str] = "wait"
    wait: DurationLike


TASK_KEYS: tuple[str, ...] = (
    "call",
    "for",
    "do",
    "emit",
    "fork",
    "listen",
    "raise",
    "run",
    "set",
    "switch",
    "try",
    "wait",
)
"""The keys that say what a task is. `for` stands before `do`, which a loop has as well."""


def _task_tag(value: object) -> str | None:
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return next((f"<{key}>" for key in TASK_KEYS if key in fields), None)
    return f"<{value.kind.split()[0]}>" if isinstance(value, TaskBase) else None


Task: TypeAlias = Annotated[
    Annotated[CallTask, Tag("<call>")]
    | Annotated[DoTask, Tag("<do>")]
    | Annotated[EmitTask, Tag("<emit>")]
    | Annotated[ForTask, Tag("<for>")]
    | Annotated[ForkTask, Tag("<fork>")]
    | Annotated[ListenTask, Tag("<listen>")]
    | Annotated[RaiseTask, Tag("<raise>")]
    | Annotated[RunTask, Tag("<run>")]
    | Annotated[SetTask, Tag("<set>")]
    | Annotated[SwitchTask, Tag("<switch>")]
    | Annotated[TryTask, Tag("<try>")]
    | Annotated[WaitTask, Tag("<wait>")],
    Discriminator(
        _task_tag,
        custom_error_type="task-kind",
        custom_error_message="says no kind of task: it needs one of " + ", ".join(sorted(TASK_KEYS)),
    ),
]


class TaskItem(Element):
    """A task and its name, as one entry of an ordered list."""

    name: Annotated[Text, Field(min_length=1)]
    task: Task

    @model_serializer(mode="wrap")
    def _as_entry(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.name: handler(self)["task"]}


TaskList: TypeAlias = tuple[Annotated[TaskItem, BeforeValidator(entry_of("task"))], ...]


def describe(task: TaskBase) -> str:
    """The kind of a task in words a person reads: `set`, `for`, `call http` …"""
    return task.kind


def inner_lists(task: TaskBase) -> Iterator[tuple[str, "TaskList"]]:
    """The task lists inside a task, each with its JSON pointer relative to the task."""
    match task:
        case DoTask():
            yield "/do", task.do
        case ForTask():
            yield "/do", task.do
        case ForkTask():
            yield "/fork/branches", task.fork.branches
        case TryTask():
            yield "/try", task.try_
            if task.catch.do is not None:
                yield "/catch/do", task.catch.do
        case ListenTask():
            if task.foreach is not None and task.foreach.do is not None:
                yield "/foreach/do", task.foreach.do
        case CallAsyncApiTask():
            subscription = task.with_.subscription
            if subscription is not None and subscription.foreach is not None and subscription.foreach.do is not None:
                yield "/with/subscription/foreach/do", subscription.foreach.do
        case _:
            pass


AsyncApiSubscription.model_rebuild(_types_namespace={"SubscriptionIterator": SubscriptionIterator})
