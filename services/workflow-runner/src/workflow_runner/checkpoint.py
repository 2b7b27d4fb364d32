"""From where a failed run can be recovered: marks of tasks that began, and what is kept of them outside of the run.

A mark is a few references: it costs next to nothing while the run goes well. When the run fails, or goes on in a new
history, the marks are written down as a checkpoint, in which every value stands once however many marks share it.
Secrets are symbolic in it, as everywhere in a run.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

from workflow_runner.flow import ListFrame, TaskFrame
from workflow_runner.inbox import InboxState

MOST_BYTES = 6_000_000
"""What a checkpoint may take unless said. Beyond it only the failure is kept."""
TOLD_BYTES = 4 * 1024 * 1024
"""The same where it is asked for while the run goes well, which takes a step of the run."""
_MOST_KEPT_BYTES = 4 * 1024 * 1024
"""What the marks of a run may keep alive, roughly, unless said; beyond it the oldest are forgotten."""
_LONG_TEXT = 64
_NOTHING: Mapping[str, Any] = {}


class Mark(NamedTuple):
    """A task that is about to begin. Made for every task, hence no dataclass."""

    here: ListFrame
    """The list at that moment."""
    id: str
    name: str
    context: Any
    outer: "tuple[Mark, TaskFrame] | None"
    """The task around it, and how far that was."""


class Position(TypedDict):
    """A task with which a run can begin, as the server knows it."""

    reference: str
    task_name: str
    task_id: str
    within: list[str]
    failed: bool


class Checkpoint(TypedDict):
    """What is kept outside of the run."""

    content: str
    """JSON text; see `Content`."""
    positions: list[Position]


class Carried(TypedDict):
    """What a recovered run has in common with the run before it."""

    nonce: str
    started_at: float
    limit: float | None
    """Seconds that the workflow may take, if it says so."""
    inbox: InboxState


class Basis(Carried):
    """What all places of a checkpoint have in common."""

    definition: str
    input: Any


class Content(Basis):
    """A checkpoint's content. A key may be added; none may change its meaning or go away."""

    values: list[Any]
    """Objects, arrays and long texts; `{"$": N}` stands for one of them wherever a value is meant."""
    failed: "Place | None"
    marks: "dict[str, Place]"
    """By pointer."""


class Place(TypedDict):
    """Where a run can begin."""

    context: Any
    frame: Any


class Begin(Carried):
    """Where a recovered run begins."""

    context: Any
    frame: ListFrame
    anew: NotRequired[bool]
    """Whether it is another execution, with a time of its own, to which nothing was sent. It is not unless said."""


class Part(TypedDict):
    """A part of a checkpoint, as it is told to who asks for it."""

    text: str
    length: int
    """Of the whole text."""
    digest: str
    """Tells this checkpoint from one of a moment later."""


class Wreck(NamedTuple):
    """Where a strand of a run failed."""

    reference: str
    """Of the innermost task that failed."""
    mark: Mark
    context: Any
    task: TaskFrame | None = None
    """How far the task was, where it is not to begin anew: its work was done, or it is a fork."""
    branches: "Mapping[str, Wreck | ListFrame]" = _NOTHING
    """Of a fork: where each branch that had begun and has no output was, the failed one first."""

    @property
    def innermost(self) -> Mark:
        """The task that failed."""
        first = next(iter(self.branches.values()), None)
        return first.innermost if isinstance(first, Wreck) else self.mark

    def marks(self) -> "Iterator[Mark]":
        """Every task that was in progress, and those around them."""
        yield self.mark
        yield from _around(self.mark)
        for branch in self.branches.values():
            if isinstance(branch, Wreck):
                yield from branch.marks()


class Marks:
    """The newest mark of every task of the definition, oldest first."""

    def __init__(self, most_bytes: int = _MOST_KEPT_BYTES) -> None:
        """Keep marks that hold `most_bytes` together, roughly."""
        self._most = most_bytes
        self._marks: dict[str, Mark] = {}
        self._weights: dict[str, int] = {}
        self._weight = 0

    def __bool__(self) -> bool:
        return bool(self._marks)

    def note(self, reference: str, mark: Mark) -> None:
        """Keep a mark in place of the task's last one."""
        self._marks.pop(reference, None)
        self._marks[reference] = mark

    def weigh(self, reference: str, size: int) -> None:
        """Say how many bytes a task's mark keeps alive, roughly; too many, and the oldest marks go."""
        self._weight += size - self._weights.get(reference, 0)
        self._weights[reference] = size
        while self._weight > self._most and len(self._marks) > 1:
            oldest = next(iter(self._marks))
            del self._marks[oldest]
            self._weight -= self._weights.pop(oldest, 0)

    def checkpoint(
        self, basis: Basis, wreck: Wreck | None, *, fits: Callable[[int], bool] = lambda size: size <= MOST_BYTES
    ) -> Checkpoint | None:
        """Write the marks down, with where the run failed; None if there is nothing to write, or too much.

        `fits` says whether so many bytes are not too much.
        """
        texts: dict[int, str] = {}
        for marks in (self._marks, {}):
            if not marks and wreck is None:
                return None
            writer = _Writer()
            failed = None if wreck is None else writer.wreck(wreck)
            places = {reference: writer.mark(mark) for reference, mark in marks.items()}
            content: Content = {**basis, "values": writer.values, "failed": failed, "marks": places}
            text = _text(content, texts, fits)
            if text is not None:
                positions = [_position(reference, mark, _around(mark)) for reference, mark in marks.items()]
                if wreck is not None:
                    positions.append({**_position(wreck.reference, wreck.innermost, wreck.marks()), "failed": True})
                return {"content": text, "positions": positions}
        return None


def _text(content: Content, texts: dict[int, str], fits: Callable[[int], bool]) -> str | None:
    """Return a checkpoint's text, or None as soon as it is too much: writing takes the time of a step.

    `texts` has those of values that were written before, by identity.
    """
    rest = _dumped({key: value for key, value in content.items() if key != "values"})
    size, parts = len(rest), list[str]()
    for value in content["values"]:
        part = texts.get(id(value))
        if part is None:
            part = texts[id(value)] = _dumped(value)
        size += len(part) + 1
        if not fits(size):
            return None
        parts.append(part)
    return f'{{"values":[{",".join(parts)}],{rest[1:]}' if fits(size) else None


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


class _Writer:
    """Writes places, and each value that they share once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[int, int] = {}

    def mark(self, mark: Mark) -> Place:
        """Write the place where a task begins."""
        return {"context": self._value(mark.context), "frame": self._with_around(mark, self._list(mark.here))}

    def wreck(self, wreck: Wreck) -> Place:
        """Write the place where a run failed."""
        return {"context": self._value(wreck.context), "frame": self._with_around(wreck.mark, self._wrecked(wreck))}

    def _wrecked(self, wreck: Wreck) -> dict[str, Any]:
        node = self._list(wreck.mark.here)
        if wreck.task is not None:
            node["task"] = self._task(wreck.task)
        if wreck.branches:
            node["task"]["branches"] = {
                index: self._with_around(branch.mark, self._wrecked(branch), wreck.mark)
                if isinstance(branch, Wreck)
                else self._list(branch)
                for index, branch in wreck.branches.items()
            }
        return node

    def _with_around(self, mark: Mark, node: dict[str, Any], limit: Mark | None = None) -> dict[str, Any]:
        """Return a list with the lists around it, up to the task `limit`."""
        while mark.outer is not None and mark.outer[0] is not limit:
            index = str(node["index"])
            mark, task = mark.outer
            inside = {"branches": {index: node}} if "branches" in task else {"child": node}
            node = {**self._list(mark.here), "task": {**self._task(task), **inside}}
        return node

    def _list(self, frame: ListFrame) -> dict[str, Any]:
        written = {**frame, "input": self._value(frame["input"])}
        if "task" in frame:
            written["task"] = self._task(frame["task"])
        return written

    def _task(self, frame: TaskFrame) -> dict[str, Any]:
        state = {key: self._value(value) for key, value in frame["state"].items()}
        written: dict[str, Any] = {**frame, "input": self._value(frame["input"]), "state": state}
        if "done" in frame:
            written["done"] = {**frame["done"], "output": self._value(frame["done"]["output"])}
        if "child" in frame:
            written["child"] = self._list(frame["child"])
        if "branches" in frame:
            written["branches"] = {index: self._list(branch) for index, branch in frame["branches"].items()}
        return written

    def _value(self, value: Any) -> Any:
        if not isinstance(value, (dict, list)) and not (isinstance(value, str) and len(value) > _LONG_TEXT):
            return value
        # By identity: the same object is the same value, and comparing would cost what is to be saved.
        index = self._known.get(id(value))  # pyright: ignore[reportUnknownArgumentType] - JSON
        if index is None:
            index = self._known[id(value)] = len(self.values)  # pyright: ignore[reportUnknownArgumentType] - JSON
            self.values.append(value)
        return {"$": index}


def part_of(checkpoint: Checkpoint | None, start: int, most: int) -> Part:
    """Return a part of a checkpoint, compressed, of `most` characters at most."""
    whole = zlib.compress(_dumped(checkpoint or {"content": "", "positions": []}).encode())
    text = base64.b64encode(whole).decode()
    return {
        "text": text[start : start + most],
        "length": len(text),
        "digest": hashlib.sha256(whole).hexdigest(),
    }


def begin(content: bytes, reference: str) -> tuple[str, Any, Begin]:
    """Return where a recovered run begins: with the task at a pointer, or, without one, where the run failed.

    Returns:
        The definition and the input of the run before it, and the place.

    Raises:
        LookupError: The checkpoint has no such place.
    """
    kept = cast("Content", json.loads(content))
    place = kept["marks"][reference] if reference else kept["failed"]
    if place is None:
        raise LookupError("failed")
    values = kept["values"]
    found: Begin = {
        "nonce": kept["nonce"],
        "started_at": kept["started_at"],
        "limit": kept["limit"],
        "inbox": kept["inbox"],
        "context": _read(place["context"], values),
        "frame": _read_list(place["frame"], values),
    }
    return kept["definition"], kept["input"], found


def renewed(frame: ListFrame, now: float) -> ListFrame:
    """Return a position with the time limits of all tasks in it beginning now."""
    made: ListFrame = {**frame}
    if "task" in frame:
        task: TaskFrame = {**frame["task"], "state": {**frame["task"]["state"]}}
        if task["deadline"] is not None:
            task["deadline"] = now + task["limit"] if "limit" in task else None
        # What kinds of tasks call the time when they began, and the time until which something may take.
        for name in ("until", "wakes_at"):
            task["state"].pop(name, None)
        if "began" in task["state"]:
            task["state"]["began"] = now
        if "child" in task:
            task["child"] = renewed(task["child"], now)
        if "branches" in task:
            task["branches"] = {index: renewed(branch, now) for index, branch in task["branches"].items()}
        made["task"] = task
    return made


def _read(value: Any, values: list[Any]) -> Any:
    return values[cast("Mapping[str, int]", value)["$"]] if isinstance(value, dict) else value


def _read_list(node: dict[str, Any], values: list[Any]) -> ListFrame:
    made: dict[str, Any] = {**node, "input": _read(node["input"], values)}
    if "task" in node:
        task: dict[str, Any] = node["task"]
        state = {key: _read(value, values) for key, value in task["state"].items()}
        read: dict[str, Any] = {**task, "input": _read(task["input"], values), "state": state}
        if "done" in task:
            read["done"] = {**task["done"], "output": _read(task["done"]["output"], values)}
        if "child" in task:
            read["child"] = _read_list(task["child"], values)
        if "branches" in task:
            read["branches"] = {index: _read_list(branch, values) for index, branch in task["branches"].items()}
        made["task"] = read
    return cast("ListFrame", made)


def _position(reference: str, mark: Mark, within: Iterator[Mark]) -> Position:
    ids = dict.fromkeys(around.id for around in within if around is not mark)
    return {
        "reference": reference,
        "task_name": mark.name,
        "task_id": mark.id,
        "within": [*ids][::-1],
        "failed": False,
    }


def _around(mark: Mark) -> Iterator[Mark]:
    outer = mark.outer
    while outer is not None:
        yield outer[0]
        outer = outer[0].outer
