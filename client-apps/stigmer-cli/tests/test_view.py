from __future__ import annotations

from typing import Any

import pytest
from stigmer_cli.runs.execution import Execution, Status, Task
from stigmer_cli.runs.phases import duration
from stigmer_cli.runs.view import RunView


def task(identifier: str, status: Status, *, kind: str = "set", parent: str = "", **options: Any) -> Task:
    defaults: dict[str, Any] = {
        "id": identifier,
        "name": identifier,
        "kind": kind,
        "status": status,
        "input": None,
        "output": None,
        "error": None,
        "started_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:00:00.012Z" if status.is_final else "",
        "parent": parent,
        "iteration": None,
        "attempt": 1,
    }
    return Task(**(defaults | options))


def run(*tasks: Task) -> Execution:
    return Execution(
        id="wex-1", phase="IN_PROGRESS", output=None, error=None, started_at="", completed_at="", tasks=tuple(tasks)
    )


def shown(capsys: pytest.CaptureFixture[str], *states: Execution) -> list[str]:
    with RunView() as view:
        for state in states:
            view.update(state)
    told = capsys.readouterr()
    assert told.out == ""
    return [" ".join(line.split()) for line in told.err.splitlines()]


def test_a_task_is_told_once_when_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    states = [run(task("a", Status.IN_PROGRESS)), run(task("a", Status.COMPLETED)), run(task("a", Status.COMPLETED))]
    assert shown(capsys, *states) == ["✓ a set completed 12 ms"]


def test_a_block_stands_around_what_happened_inside_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    block = task("b", Status.COMPLETED, kind="for")
    inner = [task("c", Status.COMPLETED, parent="b", iteration=index, id=f"c{index}") for index in (0, 1)]
    assert shown(capsys, run(block, *inner)) == [
        "▸ b for running",
        "✓ c [0] set completed 12 ms",
        "✓ c [1] set completed 12 ms",
        "✓ b for completed 12 ms",
    ]


def test_what_is_inside_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    with RunView() as view:
        view.update(run(task("b", Status.IN_PROGRESS, kind="do"), task("c", Status.SKIPPED, parent="b")))
    assert [line[:4] for line in capsys.readouterr().err.splitlines()] == ["▸ b ", "  - "]


def test_a_failure_says_why_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"title": "No milk", "detail": "the cow\nis out", "message": "No milk: the cow (at /do/0)"}
    (line,) = shown(capsys, run(task("a", Status.FAILED, error=error)))
    assert line == "✗ a set failed 12 ms No milk: the cow"


def test_each_attempt_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    second = task("a", Status.IN_PROGRESS, attempt=2)
    third = task("a", Status.COMPLETED, attempt=3)
    assert shown(capsys, run(second), run(third)) == [
        "▸ a set running, attempt 2",
        "▸ a set running, attempt 3",
        "✓ a set completed, attempt 3 12 ms",
    ]


def test_a_view_that_is_not_wanted_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with RunView(enabled=False) as view:
        view.update(run(task("a", Status.COMPLETED)))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0004, "0 ms"), (0.25, "250 ms"), (3.21, "3.2 s"), (75, "1 min 15 s"), (7260, "2 h 1 min")],
)
def test_durations_are_told_in_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
