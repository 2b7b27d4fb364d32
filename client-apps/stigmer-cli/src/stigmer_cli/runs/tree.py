"""A run as a tree of its tasks, as it stands on a terminal while the run goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from stigmer_cli.console import printable
from stigmer_cli.runs.execution import Execution, Status, Task
from stigmer_cli.runs.phases import duration

_MARKS = {
    Status.COMPLETED: ("✓", "green"),
    Status.FAILED: ("✗", "red"),
    Status.SKIPPED: ("-", "dim"),
    Status.WAITING_FOR_APPROVAL: ("?", "yellow"),
    Status.IN_PROGRESS: ("▸", "cyan"),
}
_FIRST, _LAST = 2, 3
"""Of the many alike (turns of a loop), so many are shown from the beginning and from the end."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Tasks that are not shown one by one."""

    count: int
    failed: int

    def __str__(self) -> str:
        failed = f", {self.failed} of them failed" if self.failed else ""
        return f"… {self.count} more{failed}"


Row = tuple[int, Task | Gap]
"""How deep, and what."""


def rows(execution: Execution) -> Iterator[Row]:
    """Yield the tree from the top, a row for each task that is shown; of many alike only a few are."""
    known = {task.id for task in execution.tasks}
    children: dict[str, list[Task]] = {}
    for task in execution.tasks:
        children.setdefault(task.parent if task.parent in known else "", []).append(task)
    yield from _below("", children, 0)


def _below(parent: str, children: Mapping[str, Sequence[Task]], depth: int) -> Iterator[Row]:
    for item in _few(children.get(parent, ())):
        yield depth, item
        if isinstance(item, Task):
            yield from _below(item.id, children, depth + 1)


def _few(tasks: Sequence[Task]) -> Iterator[Task | Gap]:
    """Leave out whole turns of a loop, but none in which anything still goes on."""
    turns = [list(turn) for _, turn in groupby(tasks, key=lambda task: (task.iteration, task.attempt))]
    hidden: list[Task] = []
    for number, turn in enumerate(turns):
        is_shown = number < _FIRST or number >= len(turns) - _LAST or any(not task.status.is_final for task in turn)
        if not is_shown:
            hidden += turn
            continue
        if hidden:
            yield Gap(len(hidden), sum(task.status is Status.FAILED for task in hidden))
            hidden = []
        yield from turn


def drawn(execution: Execution, *, now: Callable[[], float] = time.time) -> Any:
    """Return the tree for rich to draw."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree("", hide_root=True, guide_style="dim")
    at: list[Any] = [root]
    for depth, item in rows(execution):
        del at[depth + 1 :]
        label = Text(str(item), style="dim") if isinstance(item, Gap) else _label(item, now())
        at.append(at[depth].add(label))
    return root


def _label(task: Task, now: float) -> Any:
    from rich.text import Text

    mark, style = _MARKS.get(task.status, (" ", ""))
    text = Text(f"{mark} ", style=style, no_wrap=True, overflow="ellipsis")
    name = printable(task.name) if task.iteration is None else f"{printable(task.name)} [{task.iteration}]"
    text.append(name, style="bold" if task.status is Status.IN_PROGRESS else "")
    text.append(f"  {task.kind}", style="dim")
    if task.attempt > 1:
        text.append(f"  attempt {task.attempt}", style="yellow")
    text.append(f"  {_took(task, now)}", style="dim")
    if task.execution:
        text.append(f"  → {printable(task.execution)}", style="dim")
    if task.awaits:
        text.append(f"  for {printable(task.awaits)}", style="yellow")
    if task.status is Status.FAILED and task.error:
        text.append(f"  {reason(task.error)}", style="red")
    return text


def _took(task: Task, now: float) -> str:
    if task.taken_from:
        return f"taken over from {task.taken_from}"
    if task.status.is_final:
        return duration(task.seconds)
    if not task.started_at:
        return ""
    # The server's clock may be ahead of ours.
    return duration(max(0.0, now - datetime.fromisoformat(task.started_at).timestamp()))


def reason(error: Mapping[str, Any]) -> str:
    """Return what went wrong on one line; where it did is told by the line's place."""
    told = [str(error[key]) for key in ("title", "detail") if error.get(key)]
    return printable(": ".join(told or [str(error["message"])]).split("\n")[0])
