"""What a kind of task is to the interpreter.

A kind is a module of this package with an object `KIND`. It sees one task through a `Step` and returns an
outcome, or raises. It keeps nothing in itself: one object serves every run of the process.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import DurationLike, Export, Output, TaskBase, TaskList, Workflow

from workflow_runner.call_messages import AgentArguments, ModelAnswer, ModelArguments, Subflow
from workflow_runner.flow import Outcome
from workflow_runner.foreign import ForeignActivity
from workflow_runner.inbox import Answer, Signal
from workflow_runner.ledger import Ledger
from workflow_runner.messages import Limits

T_contra = TypeVar("T_contra", bound=TaskBase, contravariant=True)

NO_VARIABLES: Mapping[str, Any] = {}


class Step(Protocol):
    """One execution of one task.

    Expressions see `.` and `$input` as the task's transformed input unless said otherwise, and the
    variables of the loops and catches around the task.
    """

    @property
    def input(self) -> Any:
        """The task's transformed input."""
        ...

    @property
    def pointer(self) -> str:
        """JSON pointer of the task in the definition."""
        ...

    @property
    def workflow(self) -> Workflow:
        """The definition."""
        ...

    @property
    def org(self) -> str:
        """Slug of the organization that the run belongs to."""
        ...

    @property
    def heard(self) -> Ledger:
        """Which events the run has heard; whoever hears one notes it there."""
        ...

    @property
    def limits(self) -> Limits:
        """The bounds of the run."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """What the kind must know to go on when the run is continued; empty when the task begins.

        The kind changes it in place, with JSON values only, before it runs children.
        """
        ...

    def evaluate(self, value: Any, variables: Mapping[str, Any] = NO_VARIABLES) -> Any:
        """Return `value` with every expression in it evaluated.

        Raises:
            ExpressionError: One fails.
        """
        ...

    def evaluate_text(self, text: str, variables: Mapping[str, Any] = NO_VARIABLES, *, on: Any = ...) -> Any:
        """Return what an expression gives that is written with or without `${ }`, evaluated on `on`.

        Raises:
            ExpressionError: It fails.
        """
        ...

    def holds(self, text: str, variables: Mapping[str, Any] = NO_VARIABLES, *, on: Any = ...) -> bool:
        """Return whether a condition holds.

        Raises:
            ExpressionError: It fails, or gives neither true nor false.
        """
        ...

    def duration(self, value: DurationLike) -> timedelta:
        """Return the length of a duration, evaluated first.

        Raises:
            WorkflowError: It is none.
        """
        ...

    def time(self) -> float:
        """Return the run's own time, in seconds since the epoch; it stands still while the run is held."""
        ...

    def now(self) -> float:
        """Return the time of the world, in seconds since the epoch; the same when replayed."""
        ...

    def in_time(self, until: float) -> AbstractAsyncContextManager[None]:
        """Limit a block to the run's own time `until`.

        Raises:
            TimeoutError: When it is reached.
        """
        ...

    async def receive(self, matches: Callable[[Signal], bool], *, listener: str = "") -> Signal | None:
        """Wait for a signal that matches and take it; one that came before counts.

        None: there are events for `listener`. The run may be continued meanwhile: what else was received belongs
        into `state`.
        """
        ...

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        """Show people a question in place of the task's input, wait for the answer and take it.

        An answer that came before counts. The run may be continued meanwhile.
        """
        ...

    async def rest(self) -> None:
        """Between two things that the task does: wait while the run is held. The run may be continued here."""
        ...

    def show(self, metadata: Mapping[str, Any]) -> None:
        """Have people see this beside the task, such as what it waits for."""
        ...

    def hand_on(self, output: Output | None, export: Export | None, raw: Any, variables: Mapping[str, Any]) -> Any:
        """Return what one of several things that the task does gives, transformed; `$context` is replaced as said."""
        ...

    def random(self) -> float:
        """Return a number from 0 to 1 that a replay gives again."""
        ...

    async def sleep(self, length: timedelta) -> None:
        """Wait durably.

        The run may be continued meanwhile. A kind that then comes to the same sleep again goes on with what is left of
        it, whatever `length` it gives: one key of `state`, `wakes_at`, belongs to the sleep in progress.
        """
        ...

    async def run_tasks(
        self,
        tasks: TaskList,
        path: str,
        data: Any,
        *,
        label: str = "",
        variables: Mapping[str, Any] = NO_VARIABLES,
        iteration: int | None = None,
        attempt: int | None = None,
    ) -> Any:
        """Run a list of tasks inside this one, with `data` as the first one's input; return the last one's output.

        Args:
            tasks: The tasks.
            path: Their JSON pointer relative to this task, such as `/do`.
            data: Raw input of the first.
            label: Tells this pass from others of the same list, such as `[3]`.
            variables: More variables for everything inside.
            iteration: Number of the pass, from 0, when it is one of a loop.
            attempt: Number of the pass, from 1, when it may be tried again.
        """
        ...

    async def run_function(self, name: str, task: TaskBase, data: Any) -> Any:
        """Run a function of `use.functions` inside this task, with `data` as its raw input; return its output."""
        ...

    async def run_branches(self, tasks: TaskList, path: str, data: Any, *, compete: bool) -> Any:
        """Run tasks inside this one side by side, each with `data` as its input; return the array of their outputs.

        Args:
            tasks: The tasks.
            path: Their JSON pointer relative to this task.
            data: Raw input of each.
            compete: Cancel the others when one has completed, and return its output alone.

        Raises:
            WorkflowError: One faulted; the others were cancelled.
        """
        ...

    async def run_workflow(self, subflow: Subflow, *, waits: bool) -> Any:
        """Run another workflow, and return its output, or nothing unless it `waits`.

        Raises:
            WorkflowError: It cannot be run, or faulted.
        """
        ...

    async def run_agent(self, arguments: AgentArguments) -> Any:
        """Run an agent, and return what it gives. `arguments` may hold symbolic secrets.

        Raises:
            WorkflowError: It cannot be run, or failed.
        """
        ...

    async def call(
        self, activity: str, arguments: Mapping[str, Any], *, repeatable: bool, seconds: float | None = None
    ) -> Any:
        """Call out through `activity` and return the call's output, within `seconds` if the task has not fewer left.

        `arguments` may hold symbolic secrets; they are filled in where the call is made. A call that is
        `repeatable` may be made again when the worker that makes it is lost. Of another the outcome is
        then unknown, which is a `timeout` error.

        Raises:
            WorkflowError: The call failed.
        """
        ...

    async def ask_model(self, arguments: ModelArguments, *, seconds: float = 0) -> ModelAnswer:
        """Ask a model, and show beside the task which it was and what it has used up; 0 seconds: what the task has.

        Raises:
            WorkflowError: It could not be asked, or gave no answer.
        """
        ...

    async def run_activity(self, activity: ForeignActivity) -> Any:
        """Run an activity of another worker and return its result.

        Raises:
            WorkflowError: It failed, or its arguments hold a secret.
        """
        ...


class TaskKind(Protocol[T_contra]):
    """One kind of task."""

    @property
    def task(self) -> type[Any]:
        """The class of the model whose tasks this kind runs."""
        ...

    @property
    def type(self) -> str:
        """Name of the contract's WorkflowTaskType."""
        ...

    def unsupported(self, task: T_contra) -> Iterator[tuple[str, str]]:
        """Give what of `task` cannot be run: JSON pointer relative to the task, and a sentence."""
        ...

    async def run(self, task: T_contra, step: Step) -> Outcome:
        """Run `task`.

        Raises:
            WorkflowError: The task faults.
            EndOfWorkflow: A task inside said `end`.
        """
        ...


def configuration_fault(detail: str, step: Step) -> WorkflowError:
    """Return the error of a definition that cannot be carried out."""
    return WorkflowError.standard("configuration", detail, instance=step.pointer)
