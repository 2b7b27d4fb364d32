"""Extensions: tasks that a document wants done before and after each of its tasks of a kind.

An extension goes around those that stand after it: `before` lists run in the order of the document, `after` lists in
the reverse order. Their tasks see the extended task as `$task`, and its input or output as their own input; what they
give is dropped, unless `before` ends with `exit`: then the extended task is not run, and that is its output. Tasks of
extensions are not extended themselves. Workflow code.
"""

from typing import NamedTuple, TypedDict, cast

from stigmer_dsl.model import Extension, TaskBase, Workflow
from stigmer_dsl.problems import pointer_to

from workflow_runner.flow import Done

_COMPOSITE = frozenset({"do", "fork"})
"""The kinds that `extend: composite` means: the others that hold tasks have names of their own."""


class Around(TypedDict):
    """How far the extensions of one task are; part of its frame."""

    next: int
    """Of those that may apply, the one whose turn it is before the task."""
    entered: list[int]
    """Those that do apply."""
    left: int
    """How many of these are through after the task."""
    given: Done | None
    """What the task gave, once it is done."""


class Extending(NamedTuple):
    """One extension, and where it stands."""

    place: int
    name: str
    pointer: str
    extension: Extension


class Extensions:
    """The extensions of a workflow."""

    def __init__(self, workflow: Workflow) -> None:
        self._all = tuple(
            Extending(index, item.name, pointer_to(["use", "extensions", index, item.name]), item.extension)
            for index, item in enumerate(workflow.use.extensions)
        )
        self._by_kind: dict[str, tuple[Extending, ...]] = {}

    def of(self, task: TaskBase) -> tuple[Extending, ...]:
        """Return those that may apply to a task, in the order of the document."""
        if not self._all:
            return ()
        kind = task.kind.split()[0]
        found = self._by_kind.get(kind)
        if found is None:
            found = self._by_kind[kind] = tuple(item for item in self._all if _extends(item.extension, kind))
        return found

    def __getitem__(self, index: int) -> Extending:
        """Return one by its place in the document."""
        return self._all[index]


def beginning() -> Around:
    """Return how far extensions are before anything was done."""
    return cast("Around", {"next": 0, "entered": [], "left": 0, "given": None})


def _extends(extension: Extension, kind: str) -> bool:
    target = extension.extend
    return target in ("all", kind) or (target == "composite" and kind in _COMPOSITE)
