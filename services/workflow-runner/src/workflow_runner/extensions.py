"""Extensions: tasks that a document wants done before and after each of its tasks of a kind.

An extension goes around those that stand after it: `before` lists run in the order of the document, `after` lists in
the reverse order. Their tasks see the extended task as `$task`, and its input or output as their own input; what they
give is dropped, unless `before` ends with `exit`: then the extended task is not run, and that is its output. Tasks of
extensions are not extended themselves. Workflow code.
"""

from typing import Any, NamedTuple, Protocol, TypedDict

from stigmer_dsl.model import Extension, TaskBase, TaskList, Workflow
from stigmer_dsl.problems import pointer_to

from workflow_runner.flow import Done, Outcome

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


class Extensible(Protocol):
    """What the extensions around a task need of its execution."""

    @property
    def is_inside(self) -> bool:
        """Whether the run goes on in the middle of a list inside the task."""
        ...

    def holds(self, text: str) -> bool:
        """Return whether a condition holds on the task's input."""
        ...

    async def run_extension(self, pointer: str, label: str, tasks: TaskList, data: Any) -> Outcome:
        """Run a list of an extension, which stands at `pointer`, with `data` as the first task's input."""
        ...


class Extensions:
    """The extensions of a workflow."""

    def __init__(self, workflow: Workflow) -> None:
        self._all = tuple(
            Extending(place, item.name, pointer_to(["use", "extensions", place, item.name]), item.extension)
            for place, item in enumerate(workflow.use.extensions)
        )
        self._by_kind: dict[str, tuple[Extending, ...]] = {}

    def around(self, task: TaskBase, so_far: Around | None) -> "Surroundings | None":
        """Return those that may apply to a task, and how far they are; None if there are none."""
        if not self._all:
            return None
        kind = task.kind.split()[0]
        found = self._by_kind.get(kind)
        if found is None:
            found = self._by_kind[kind] = tuple(item for item in self._all if _extends(item.extension, kind))
        return Surroundings(found, self._all, so_far) if found else None


class Surroundings:
    """The extensions around one execution of a task."""

    def __init__(self, items: tuple[Extending, ...], every: tuple[Extending, ...], so_far: Around | None) -> None:
        self._items = items
        self._every = every
        self._around: Around = so_far or {"next": 0, "entered": [], "left": 0, "given": None}

    @property
    def frame(self) -> Around:
        """How far they are, as it is now."""
        return {**self._around, "entered": [*self._around["entered"]]}

    @property
    def given(self) -> Outcome | None:
        """What the task gave, once it is done."""
        given = self._around["given"]
        return None if given is None else Outcome(**given)

    async def before(self, step: Extensible, data: Any) -> Outcome | None:
        """Run what comes before the task; return what stands for its work, if it is not to be done."""
        around = self._around
        while around["next"] < len(self._items):
            item = self._items[around["next"]]
            if not step.is_inside:
                if item.extension.when is not None and not step.holds(item.extension.when):
                    around["next"] += 1
                    continue
                around["entered"].append(item.place)
            ended = await self._run(step, item, "before", item.extension.before, data)
            around["next"] += 1
            if ended.then == "exit":
                around["next"] = len(self._items)
                return Outcome(ended.output)
        return None

    async def after(self, step: Extensible, given: Outcome) -> None:
        """Run what comes after the task, which gave `given`."""
        around = self._around
        around["given"] = {"output": given.output, "then": given.then}
        while around["left"] < len(around["entered"]):
            item = self._every[around["entered"][-1 - around["left"]]]
            await self._run(step, item, "after", item.extension.after, given.output)
            around["left"] += 1

    async def _run(self, step: Extensible, item: Extending, path: str, tasks: TaskList | None, data: Any) -> Outcome:
        if not tasks:
            return Outcome(data)
        return await step.run_extension(f"{item.pointer}/{path}", f"@{item.name}/{path}", tasks, data)


def _extends(extension: Extension, kind: str) -> bool:
    target = extension.extend
    return target in ("all", kind) or (target == "composite" and kind in _COMPOSITE)
