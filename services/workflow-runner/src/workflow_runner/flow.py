"""How control leaves a task: with an outcome, with the end of the workflow, or in the middle, to be continued.

A position is a tree of frames that mirrors the nesting of task lists. It is JSON, it stands in the argument
of a continued run, and it is enough to go on there: no task before it is done or reported again.
"""

from typing import Any, NamedTuple, NotRequired, TypedDict


class Outcome(NamedTuple):
    """What a task gave. Made twice for every task, hence no dataclass."""

    output: Any
    then: str | None = None
    """Where the flow goes; None: to the next task."""


class Done(TypedDict):
    """The outcome of a task's work, before its output is transformed."""

    output: Any
    then: str | None


class TaskFrame(TypedDict):
    """A task that was begun and is not done."""

    id: str
    input: Any
    """Transformed."""
    started_at: float
    """Seconds since the epoch."""
    deadline: float | None
    """Seconds since the epoch, by the run's own time, at which the task times out."""
    limit: NotRequired[float]
    """How many seconds it may take, where it has a deadline."""
    state: dict[str, Any]
    """What the task's kind keeps: index, attempt …"""
    child: "NotRequired[ListFrame]"
    """The list in progress inside."""
    branches: "NotRequired[dict[str, ListFrame]]"
    """Of a fork instead: the branches in progress, by their index."""
    around: NotRequired[Any]
    """How far the extensions of the task are, where it has some."""
    done: NotRequired[Done]
    """What its work gave, where only what comes after the work is left to do."""


class ListFrame(TypedDict):
    """A task list in the middle of which the run stopped."""

    index: int
    """Of the task that is next, or that is in progress when `task` is there."""
    input: Any
    """Raw input of that task."""
    jumps: int
    """Backward jumps made in this pass through the list."""
    visits: dict[str, int]
    """How often each task that was done more than once was done, by index."""
    task: NotRequired[TaskFrame]


class Inside(TypedDict, total=False):
    """What is in progress inside a task: a part of its frame."""

    child: ListFrame
    branches: dict[str, ListFrame]


class EndOfWorkflow(Exception):  # noqa: N818 - not an error
    """A task said `end`: the whole workflow ends here, well."""

    def __init__(self, output: Any) -> None:
        super().__init__("end")
        self.output = output


class Suspended(Exception):  # noqa: N818 - not an error
    """The run leaves in the middle, to be continued in a new one; each level adds its frame on the way out.

    A list adds a `ListFrame`, a task a `TaskFrame`, and what a task does inside an `Inside`, or nothing.
    """

    def __init__(self, frame: Any = None) -> None:
        super().__init__("suspended")
        self.frame = frame
