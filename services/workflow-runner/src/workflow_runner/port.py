"""What the parts of the interpreter need of each other: the durable engine beneath, and the run above a step."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

from stigmer_dsl.model import TaskList, Workflow

from workflow_runner.call_messages import AgentArguments, CallAnswer, ModelArguments, Subflow
from workflow_runner.checkpoint import Mark, Marks, Wreck
from workflow_runner.clock import Clock
from workflow_runner.data import Evaluator, Scope
from workflow_runner.extensions import Extensions
from workflow_runner.flow import ListFrame, Outcome, TaskFrame
from workflow_runner.foreign import ForeignActivity
from workflow_runner.inbox import Answer, Signal
from workflow_runner.ledger import Ledger
from workflow_runner.messages import Limits, TaskRecord
from workflow_runner.strands import Strands

FUNCTIONS = "/use/functions"
"""Where functions stand: by their names, in no order."""


class Block(NamedTuple):
    """A task list, and where it stands in a run. Made for every pass through a list, hence no dataclass."""

    tasks: TaskList
    pointer: str
    """JSON pointer of the list in the definition."""
    prefix: str
    """What ids of executions of its tasks begin with."""
    scope: Scope
    outer: tuple[Mark, TaskFrame] | None = None
    """The task around it, and how far that is."""

    def pointer_to(self, index: int) -> str:
        """Return the pointer of one of the tasks."""
        if self.pointer == FUNCTIONS:
            return f"{self.pointer}/{_escaped(self.tasks[index].name)}"
        return f"{self.pointer}/{index}/{_escaped(self.tasks[index].name)}"


class Engine(Protocol):
    """What the interpreter needs from the durable engine."""

    def time(self) -> float:
        """Return the time of the world, in seconds since the epoch; the same when replayed."""
        ...

    @property
    def clock(self) -> Clock:
        """The run's own time, which stands still while the run is held."""
        ...

    @property
    def strands(self) -> Strands:
        """The coroutines of the run that go on side by side."""
        ...

    async def until_all_leave(self) -> None:
        """Wait until every strand can go on in a new history; then this one must."""
        ...

    async def until_released(self) -> bool:
        """Wait until the run is no longer held; False: it still is, but should go on in a new history first."""
        ...

    @property
    def org(self) -> str:
        """Slug of the organization that the run belongs to."""
        ...

    @property
    def heard(self) -> Ledger:
        """Which events the run has heard; whoever hears one notes it there."""
        ...

    async def receive(self, matches: Callable[[Signal], bool], listener: str) -> Signal | bool:
        """Wait for a signal and take it, or until there are events for a listener, which is True.

        False: there is nothing yet, but the run should go on in a new history first.
        """
        ...

    async def answer(self, task_id: str) -> Answer | None:
        """Wait for the answer to an execution of a task and take it.

        None: there is none yet, but the run should go on in a new history first.
        """
        ...

    def random(self) -> float:
        """Return a number from 0 to 1; the same when replayed."""
        ...

    def guarded(self) -> None:
        """Take note of an expression that may take long, before it is evaluated."""
        ...

    def continuation_is_due(self) -> bool:
        """Whether the history has become so long that the run should go on in a new one."""
        ...

    def show(self, record: TaskRecord) -> None:
        """Let people see what became of a task, where the engine shows its runs."""
        ...

    async def sleep(self, length: timedelta, *, key: str) -> bool:
        """Wait durably, for the task at the pointer `key`.

        False: not all of it has passed, but the run should go on in a new history first.
        """
        ...

    async def call(
        self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool, seconds: float, key: str
    ) -> CallAnswer:
        """Make a call and return its answer; `key` names the task, for what is known of its calls."""
        ...

    async def run_activity(self, activity: ForeignActivity, *, seconds: float, key: str) -> Any:
        """Run an activity of another worker and return its result.

        Args:
            activity: What to run.
            seconds: How long an attempt may take where its options do not say.
            key: Pointer of the task, by which people see it where its options do not say.

        Raises:
            WorkflowError: It failed, or its arguments cannot be given away.
        """
        ...

    async def run_workflow(
        self, subflow: Subflow, *, org: str, waits: bool, begun: Callable[[str], None]
    ) -> CallAnswer | None:
        """Run another workflow as an execution of its own, and return how that ended; None unless it `waits`.

        A run that is cancelled meanwhile cancels the execution.

        Args:
            subflow: Which, and its input.
            org: Slug of the organization it is looked for in.
            waits: Whether its end is waited for.
            begun: Is told its id.

        Raises:
            WorkflowError: It cannot be run.
        """
        ...

    async def run_agent(self, arguments: AgentArguments, *, task_id: str, begun: Callable[[str], None]) -> CallAnswer:
        """Run an agent as an execution of its own, once for each execution of a task, and return how that ended.

        A run that is cancelled meanwhile cancels the execution. `begun` is told its id.

        Raises:
            WorkflowError: It cannot be run.
        """
        ...

    async def ask_model(self, arguments: ModelArguments, *, seconds: float, key: str) -> CallAnswer:
        """Ask a model, through the runner of agents, and return its answer, a `ModelAnswer`.

        Args:
            arguments: What it is asked. They may hold symbolic secrets.
            seconds: How long it may take.
            key: Pointer of the task, by which people see it.

        Raises:
            WorkflowError: The arguments are too large.
        """
        ...


class Run(Protocol):
    """What one execution of a task needs of the run that it belongs to."""

    context: Any
    """The run's `$context`; a step replaces it."""
    has_progressed: bool
    """Whether a task has ended in this history."""

    @property
    def workflow(self) -> Workflow:
        """The definition."""
        ...

    @property
    def limits(self) -> Limits:
        """The bounds of the run."""
        ...

    @property
    def evaluator(self) -> Evaluator:
        """What evaluates its expressions."""
        ...

    @property
    def engine(self) -> Engine:
        """What it runs on."""
        ...

    @property
    def extensions(self) -> Extensions:
        """What is done before and after tasks."""
        ...

    @property
    def marks(self) -> Marks:
        """Where it can be begun with again."""
        ...

    @property
    def is_breathless(self) -> bool:
        """Whether so much was computed that it should let go."""
        ...

    def count_task(self, pointer: str) -> None:
        """Count a task that is about to begin.

        Raises:
            WorkflowError: The run has done as many as it may; every task from now on is refused so.
        """
        ...

    def record(self, record: TaskRecord) -> None:
        """Note what became of a task."""
        ...

    def tell(self) -> None:
        """Begin to send what is known, without waiting for it."""
        ...

    async def breathe(self) -> None:
        """Let go, until what is known has been told."""
        ...


class Strand(Protocol):
    """One coroutine of a run, which goes through task lists."""

    run: Run
    wreck: Wreck | None
    """Where it failed."""

    async def run_list(self, block: Block, data: Any, frame: ListFrame | None) -> Outcome:
        """Run tasks one after the other; the outcome is the last one's output, and `exit` where one said so."""
        ...

    async def run_branch(self, block: Block, index: int, data: Any, frame: ListFrame | None) -> Any:
        """Run one of several tasks that are done side by side, and return its output."""
        ...

    def another(self) -> "Strand":
        """Return a strand to go on beside this one."""
        ...


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
