"""What the workflow and its activities tell each other: JSON objects, typed.

They stand in histories. A key may be added; none may change its meaning or go away. Values that a secret
could be part of are symbolic in every one of them.
"""

from typing import Any, Literal, NotRequired, TypedDict

from workflow_runner.checkpoint import Begin, Checkpoint
from workflow_runner.inbox import InboxState

TaskStatus = Literal["IN_PROGRESS", "WAITING_FOR_APPROVAL", "COMPLETED", "FAILED", "SKIPPED"]
Phase = Literal["IN_PROGRESS", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"]


MOST_BYTES = 1_900_000
"""What one value may take in history: Temporal refuses more than two million bytes, and would do so for ever."""

MOST_OUTPUT_BYTES = 4 * 1024 * 1024
"""What an output may take in a report, which is one message to the server of ten MiB at most; more goes by itself."""


MOST_AGENT_BYTES = 4 * 1024 * 1024
"""What an agent may be given. More than any model takes at once, and little enough to stand twice in a message of the
server: in the agent's execution, and in what was said."""


class Limits(TypedDict):
    """Bounds of one run. Taken into history with the definition, so that a replay has the same."""

    max_backward_jumps: int
    max_history_events: int
    """Continue as new at this many events; 0 leaves it to Temporal's own suggestion."""
    max_call_depth: NotRequired[int]
    """So many runs may start one another in a row, see `chains`; they are not counted unless said."""
    guarded_cost: NotRequired[int]
    """What an expression that may take long counts, where a task counts 1, until a run lets go; nothing unless said."""
    max_tasks: NotRequired[int]
    """So many tasks a run may do; any number if 0 or not said."""
    raises_json: NotRequired[bool]
    """Whether what errors are raised with is JSON where it is no text; it is Python's unless said."""
    max_schema_checks: NotRequired[int]
    """How many rules one check by a schema may apply; any number unless said."""
    call_depth: NotRequired[int]
    """How many started one another down to this run; none unless said."""
    local_calls_in_row: int
    """So many calls run as local activities before one puts them all into history."""
    local_call_seconds: float
    """A call that takes longer becomes an ordinary activity."""
    local_branch_seconds: NotRequired[float]
    """The same for a call beside others in a fork; there every call is an ordinary activity unless said."""
    ends_durably: NotRequired[bool]
    """Whether the end is told only once all that led to it is in history; it need not be unless said."""
    ends_once: NotRequired[bool]
    """Whether a run that is loaded again after its end counts as recorded; it does not unless said."""
    lends_reports: NotRequired[bool]
    """Whether reports too large to go along in a call's message are lent to local ones; they are not unless said."""
    call_seconds: float
    """How long a call may take when the task sets no timeout."""
    activity_task_queue: NotRequired[str]
    """Where activities of other workers run when the task names no queue; nowhere unless said."""
    agent_task_queue: NotRequired[str]
    """Where models are asked; a run of before that asks none."""
    model_start_seconds: NotRequired[float]
    """How long a call of a model may wait there until it is begun with."""
    max_value_bytes: NotRequired[int]
    """What one value may take; `MOST_BYTES` unless said. More than that is kept outside of the history."""
    max_agent_bytes: NotRequired[int]
    """What an agent may be given; what agents and other workflows are given is not looked at unless said."""
    max_inline_bytes: NotRequired[int]
    """From here on a value is kept outside of the history; none is unless said."""
    max_sent_bytes: NotRequired[int]
    """What calls that begin in one step may be given together; see `workflow_runner.room`."""
    replaces_tasks: NotRequired[bool]
    """Whether the server takes a report's tasks for all there are; it keeps those of other ids unless said."""
    search_attributes: NotRequired[bool]
    """Whether the run may name Stigmer's search attributes; it may not unless said."""


class Loaded(TypedDict):
    """One run as it was when it began."""

    execution_id: str
    org: str
    definition: str
    """The compiled workflow: JSON text of its canonical form."""
    input: Any
    secret_names: list[str]
    variable_names: list[str]
    limits: Limits


class Driver(TypedDict):
    """The workflow of a server's own that asked for a run."""

    token: str
    """By which its activity is ended when the run is over, in base64."""
    seconds: float | None
    """What the run may take."""


class Invocation(TypedDict):
    """The argument of the workflow: what the server gives, and what a continued run gives to the next."""

    execution_id: str
    org: str
    resume: "NotRequired[Resumption]"
    driver: NotRequired[Driver]
    """Who is told of the end besides the server; nobody unless said."""


class Resumption(TypedDict):
    """Everything that a continued run needs to go on as if there had been no break."""

    run: Loaded
    nonce: str
    started_at: float
    """Seconds since the epoch."""
    context: Any
    deadline: float | None
    """Seconds since the epoch at which the workflow times out."""
    frame: NotRequired[Any]
    """Position, a `ListFrame`; a run without one is at its start."""
    tasks: NotRequired[int]
    """How many were begun; none unless said."""
    limit: NotRequired[float | None]
    """How many seconds the workflow may take, where it says so."""
    inbox: NotRequired[InboxState]
    """What was sent and not taken yet; nothing unless said."""
    behind: NotRequired[float]
    """By how many seconds the run's time is behind that of the world, because it was held; 0 unless said."""
    held: NotRequired[bool]
    """Whether the run is held; it is not unless said."""


class LoadRequest(TypedDict):
    """Which run to load, and when it began."""

    execution_id: str
    org: str
    started_at: str
    workflow_id: str
    goes_ahead_from: NotRequired[float]
    """When the run began, in seconds since the epoch, where its first calls may be made at once; they are not unless
    said."""


class HeadCall(TypedDict):
    """A call that was made while its run was loaded."""

    call: str
    """Tells it from others, see `workflow_runner.head`."""
    answer: Any
    """A `CallAnswer`."""
    at: float
    """When it was over, in seconds since the epoch."""


class HeadMessage(TypedDict):
    """What a run begins with."""

    nonce: str
    """Of the markers of its secrets."""
    began: float
    """When its first task began, in seconds since the epoch."""
    calls: list[HeadCall]
    end: NotRequired[str]
    """Tells the end that the server was told of from others, see `workflow_runner.head`; empty if that may not have
    arrived. None was told unless said."""


class Over(TypedDict):
    """A run that the server knows to be completed, though Temporal does not: see `workflow_runner.workflow`."""

    output: Any
    """None if it is too large for a message."""
    search_attributes: bool
    """Whether the run may name Stigmer's search attributes."""


class LoadAnswer(TypedDict):
    """The run, or why it cannot be run."""

    over: NotRequired[Over]
    """Says that there is nothing left to run; there is unless said."""
    run: NotRequired[Loaded]
    begin: NotRequired[Begin]
    """Where a recovered run begins; at the beginning unless said."""
    head: NotRequired[HeadMessage]
    """What was done already; nothing unless said."""
    error: NotRequired[dict[str, Any]]


class TaskRecord(TypedDict):
    """One execution of one task, as people and programs see it. The newest record of an id stands."""

    id: str
    name: str
    kind: str
    type: str
    """Name of a WorkflowTaskType of the contract."""
    reference: str
    parent: str
    iteration: int | None
    attempt: int
    status: TaskStatus
    input: Any
    started_at: str
    output: NotRequired[Any]
    completed_at: NotRequired[str]
    error: NotRequired[dict[str, Any]]
    metadata: NotRequired[dict[str, Any]]
    """What its kind shows of it: what it waits for."""


class Report(TypedDict):
    """What changed since the last report."""

    execution_id: str
    may_hold_markers: NotRequired[bool]
    """Whether values may hold the markers of secrets, which nobody is to see; true unless said."""
    tasks: list[TaskRecord]
    phase: NotRequired[Phase]
    started_at: NotRequired[str]
    completed_at: NotRequired[str]
    output: NotRequired[Any]
    error: NotRequired[dict[str, Any]]
    workflow_id: NotRequired[str]
    large: NotRequired[bool]
    """Whether the output is too large for the report's message, and goes to the server by itself."""
    checkpoint: NotRequired[Checkpoint | None]
    """Where the run can be recovered from."""
    replaces: NotRequired[bool]
    """Whether the server takes the tasks for all there are."""


class Call(TypedDict):
    """A call out of the workflow, its expressions evaluated and its secrets symbolic."""

    execution_id: str
    has_secrets: bool
    nonce: str
    """Of the markers that stand for this run's secrets."""
    arguments: dict[str, Any]
    """What the kind of call needs; each activity says what that is."""
    seconds: float
    """How long it may take."""
    local_seconds: float | None
    """Give up after so many seconds and say `slow`; None never does."""
    local_bytes: NotRequired[int]
    """Say `slow` too where the answer takes more than so many bytes in history; any number unless said."""
    inline_bytes: NotRequired[int]
    """From here on an answer is kept outside of the history; none is unless said."""
    run: NotRequired[str]
    """Id of the Temporal workflow, of a recovered run: its environment is its own."""
    report: Report | None
    """A report to deliver on the way; one for a local activity is lent instead (`workflow_runner.loans`)."""
    report_after: float
    """Seconds that the call must take for the report to be delivered with it; 0 always does."""
