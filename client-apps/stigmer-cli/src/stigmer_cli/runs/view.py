"""A run on the screen: on a terminal a tree of its tasks that lives, elsewhere a line for every task as it happens."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any

from stigmer_cli.console import Style, is_styled, printable, styled
from stigmer_cli.runs.execution import Execution, Status, Task
from stigmer_cli.runs.phases import duration
from stigmer_cli.runs.tree import drawn, reason

_BLOCKS = {"do", "for", "fork", "try", "listen"}
"""Kinds of tasks that hold others; they get a line when they start, under which those of the others stand."""
_MARKS = {Status.COMPLETED: "✓", Status.FAILED: "✗", Status.SKIPPED: "-", Status.IN_PROGRESS: "▸"}
_MARKS[Status.WAITING_FOR_APPROVAL] = "?"
_STYLES = {Status.COMPLETED: Style.GREEN, Status.FAILED: Style.RED, Status.SKIPPED: Style.DIM, Status.IN_PROGRESS: None}
_NAME_WIDTH = 30
_KIND_WIDTH = 10


class RunView:
    """Shows one run on standard error. A context manager; `update` takes every new state of the run.

    Args:
        enabled: False shows nothing, for when standard output carries a document and nobody watches.
    """

    @property
    def showed_answer(self) -> bool:
        """The output is a document of its own."""
        return False

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._shown: set[tuple[str, int, Status]] = set()
        self._live: Any = None
        self._execution: Execution | None = None

    def __enter__(self) -> RunView:
        if self._enabled and is_styled(sys.stderr):
            from rich.console import Console
            from rich.live import Live

            # Drawn when it is shown, not with every state: a run may have thousands of tasks.
            console = Console(stderr=True)
            self._live = Live(console=console, refresh_per_second=8, get_renderable=self._tree)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            # Of a tree that is taller than the terminal, only the end could be seen while it lived.
            self._live.vertical_overflow = "visible"
            self._live.stop()
            self._live = None

    def _tree(self) -> Any:
        return "" if self._execution is None else drawn(self._execution)

    @contextlib.contextmanager
    def aside(self) -> Generator[None]:
        """See `View`. The tree stays as it is, and begins anew with the next state."""
        if self._live is not None:
            self._live.stop()
        try:
            yield
        finally:
            if self._live is not None:
                self._live.start()

    def update(self, execution: Execution) -> None:
        """Show what is new."""
        if not self._enabled:
            return
        self._execution = execution
        if self._live is not None:
            return
        for line in self._news(execution):
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _news(self, execution: Execution) -> Iterator[str]:
        children: dict[str, list[Task]] = {}
        known = {task.id for task in execution.tasks}
        for task in execution.tasks:
            children.setdefault(task.parent if task.parent in known else "", []).append(task)
        yield from self._news_of(children.get("", []), children, 0)

    def _news_of(self, tasks: list[Task], children: dict[str, list[Task]], depth: int) -> Iterator[str]:
        """Yield a block's beginning, what happened inside of it, and its end, in this order."""
        for task in tasks:
            started = task.status is not Status.PENDING
            is_block = task.kind in _BLOCKS or task.id in children
            if started and (is_block or task.attempt > 1):
                yield from self._once(task, Status.IN_PROGRESS, depth)
            yield from self._news_of(children.get(task.id, []), children, depth + 1)
            if task.status.is_final or task.status is Status.WAITING_FOR_APPROVAL:
                yield from self._once(task, task.status, depth)

    def _once(self, task: Task, status: Status, depth: int) -> Iterator[str]:
        if (task.id, task.attempt, status) not in self._shown:
            self._shown.add((task.id, task.attempt, status))
            yield _line(task, status, depth)


def _line(task: Task, status: Status, depth: int) -> str:
    name = printable(task.name)
    label = name if task.iteration is None else f"{name} [{task.iteration}]"
    told = status.value if task.attempt == 1 else f"{status.value}, attempt {task.attempt}"
    if task.taken_from and status is Status.COMPLETED:
        told = "taken over"
    parts = [
        f"{'  ' * depth}{_MARKS.get(status, ' ')} {label}".ljust(_NAME_WIDTH),
        task.kind.ljust(_KIND_WIDTH),
        told.ljust(len(Status.COMPLETED.value)),
        duration(task.seconds if status.is_final else None).rjust(8),
    ]
    if task.awaits and not status.is_final:
        parts.append(f"for {printable(task.awaits)}")
    if task.execution:
        parts.append(f"→ {printable(task.execution)}")
    if status is Status.FAILED and task.error:
        parts.append(reason(task.error))
    return styled("  ".join(parts).rstrip(), _STYLES.get(status), sys.stderr)
