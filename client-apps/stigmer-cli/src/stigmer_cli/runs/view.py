"""A run on the screen: a line for every task as it happens, and on a terminal what is running right now."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from stigmer_cli.console import Style, is_styled, styled
from stigmer_cli.runs.execution import Execution, Status, Task

_BLOCKS = {"do", "for", "fork", "try", "listen"}
"""Kinds of tasks that hold others; they get a line when they start, under which those of the others stand."""
_MARKS = {Status.COMPLETED: "✓", Status.FAILED: "✗", Status.SKIPPED: "-", Status.IN_PROGRESS: "▸"}
_STYLES = {Status.COMPLETED: Style.GREEN, Status.FAILED: Style.RED, Status.SKIPPED: Style.DIM, Status.IN_PROGRESS: None}
_NAME_WIDTH = 30
_KIND_WIDTH = 10
_SHOWN_RUNNING = 8


class RunView:
    """Shows one run on standard error. A context manager; `update` takes every new state of the run.

    Args:
        enabled: False shows nothing, for when standard output carries a document and nobody watches.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._shown: dict[str, tuple[Status, int]] = {}
        self._live: Any = None

    def __enter__(self) -> RunView:
        if self._enabled and is_styled(sys.stderr):
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=10, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, execution: Execution) -> None:
        """Show what is new."""
        if not self._enabled:
            return
        for line in self._news(execution):
            if self._live is not None:
                self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                sys.stderr.write(line + "\n")
        sys.stderr.flush()
        if self._live is not None:
            self._live.update(_running(execution))

    def _news(self, execution: Execution) -> Iterator[str]:
        by_id = {task.id: task for task in execution.tasks}
        for task in execution.tasks:
            before = self._shown.get(task.id)
            starts = task.status is Status.IN_PROGRESS and (task.kind in _BLOCKS or task.attempt > 1)
            if before == (task.status, task.attempt) or not (task.status.is_final or starts):
                continue
            self._shown[task.id] = (task.status, task.attempt)
            yield _line(task, _depth(task, by_id))


def _line(task: Task, depth: int) -> str:
    label = task.name if task.iteration is None else f"{task.name} [{task.iteration}]"
    status = task.status.value if task.attempt == 1 else f"{task.status.value}, attempt {task.attempt}"
    parts = [
        f"{'  ' * depth}{_MARKS.get(task.status, ' ')} {label}".ljust(_NAME_WIDTH),
        task.kind.ljust(_KIND_WIDTH),
        status.ljust(len(Status.COMPLETED.value)),
        duration(task.seconds).rjust(8),
    ]
    if task.status is Status.FAILED and task.error:
        parts.append(str(task.error["message"]).split("\n")[0])
    return styled("  ".join(parts).rstrip(), _STYLES.get(task.status), sys.stderr)


def _depth(task: Task, by_id: dict[str, Task]) -> int:
    depth = 0
    while (parent := by_id.get(task.parent)) is not None and depth < len(by_id):
        task, depth = parent, depth + 1
    return depth


def _running(execution: Execution) -> Any:
    """Return what the bottom of the terminal shows: spinners for what runs now."""
    from rich.console import Group
    from rich.spinner import Spinner
    from rich.text import Text

    running = [task for task in execution.tasks if task.status is Status.IN_PROGRESS and task.kind not in _BLOCKS]
    rows: list[Any] = [
        Spinner("dots", Text(f"{task.name}  {task.kind}", style="dim")) for task in running[:_SHOWN_RUNNING]
    ]
    if len(running) > _SHOWN_RUNNING:
        rows.append(Text(f"  and {len(running) - _SHOWN_RUNNING} more", style="dim"))
    return Group(*rows)


def duration(seconds: float | None) -> str:
    """Return a length of time in the unit that fits it; "" for none."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
