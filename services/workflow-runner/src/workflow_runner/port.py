"""What the parts of the interpreter need of each other: the durable engine beneath, and the run above a step."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from stigmer_dsl.model import TaskList, Workflow

from workflow_runner.checkpoint import Mark
from workflow_runner.clock import Clock
from workflow_runner.data import Evaluator, Scope
from workflow_runner.flow import ListFrame, TaskFrame
from workflow_runner.foreign import ForeignActivity
from workflow_runner.inbox import Signal
from workflow_runner.ledger import Ledger
from workflow_runner.messages import CallAnswer, Limits, TaskRecord


class Engine(Protocol):
    """What the interpreter needs from the durable engine."""

    def time(self) -> float:
        """Return the time of the world, in seconds since the epoch; the same when replayed."""
        ...

    @property
    def clock(self) -> Clock:
        """The run's own time, which stands still while the run is held."""
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

    def random(self) -> float:
        """Return a number from 0 to 1; the same when replayed."""
        ...

    def continuation_is_due(self) -> bool:
        """Whether the history has become so long that the run should go on in a new one."""
        ...

    async def sleep(self, length: timedelta) -> None:
        """Wait durably."""
        ...

    async def call(
        self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool, seconds: float, key: str
    ) -> CallAnswer:
        """Make a call and return its answer; `key` names the task, for what is known of its calls."""
        ...

    async def run_activity(self, activity: ForeignActivity, *, seconds: float, summary: str) -> Any:
        """Run an activity of another worker and return its result.

        Args:
            activity: What to run.
            seconds: How long an attempt may take where its options do not say.
            summary: What people see of it where its options do not say.

        Raises:
            WorkflowError: It failed, or its arguments cannot be given away.
        """
        ...


class Run(Protocol):
    """What one execution of a task needs of the run that it belongs to."""

    context: Any
    """The run's `$context`; a step replaces it."""

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

    def record(self, record: TaskRecord) -> None:
        """Note what became of a task."""
        ...

    async def run_list(
        self,
        tasks: TaskList,
        pointer: str,
        prefix: str,
        data: Any,
        scope: Scope,
        frame: ListFrame | None,
        outer: tuple[Mark, TaskFrame] | None = None,
    ) -> Any:
        """Run `tasks`, which stand at `pointer` in the task `outer`; ids of their executions begin with `prefix`."""
        ...
