from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console
from stigmer_cli.runs.awaited import asked, heard
from stigmer_cli.runs.execution import Execution, Status, Task
from stigmer_cli.runs.tree import Gap, drawn, rows


def task(identifier: str, status: Status = Status.COMPLETED, **options: Any) -> Task:
    defaults: dict[str, Any] = {
        "id": identifier,
        "name": identifier,
        "kind": "set",
        "status": status,
        "input": None,
        "output": None,
        "error": None,
        "started_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:00:02Z" if status.is_final else "",
        "parent": "",
        "iteration": None,
        "attempt": 1,
    }
    return Task(**(defaults | options))


def run(*tasks: Task) -> Execution:
    return Execution(
        id="wex-1", phase="IN_PROGRESS", output=None, error=None, started_at="", completed_at="", tasks=tasks
    )


def screen(*tasks: Task, now: float = 1_767_225_605.0) -> list[str]:
    console = Console(width=100, file=None, record=True, force_terminal=False, quiet=False)
    with console.capture() as captured:
        console.print(drawn(run(*tasks), now=lambda: now))
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def test_tasks_stand_under_what_they_are_in_with_how_long_they_took() -> None:
    fork = task("both", Status.IN_PROGRESS, kind="fork")
    left = task("left", parent="both")
    right = task("right", Status.IN_PROGRESS, parent="both", kind="wait", attempt=2)
    assert screen(fork, left, right) == [
        "▸ both  fork  5.0 s",
        "├── ✓ left  set  2.0 s",
        "└── ▸ right  wait  attempt 2  5.0 s",
    ]


def test_a_task_that_started_a_run_names_it() -> None:
    child = task("child", Status.IN_PROGRESS, kind="run workflow", execution="wex-2")
    assert screen(child) == ["▸ child  run workflow  5.0 s  → wex-2"]


def test_a_task_tells_what_it_waits_for() -> None:
    waits = task("ok", Status.WAITING_FOR_APPROVAL, kind="call human_input", awaits="Ship it? (yes, no)")
    assert screen(waits) == ["? ok  call human_input  5.0 s  for Ship it? (yes, no)"]


@pytest.mark.parametrize(
    ("listening", "said"),
    [
        ({"one": [{"with": {"type": "com.x"}}]}, "an event com.x"),
        ({"any": [{"with": {"type": "com.x", "source": "/a"}}, {"with": {"type": "signal", "id": "go"}}]},
         "an event com.x (source /a) or the signal go"),
        ({"all": [{"with": {"type": "a"}}, {"with": {"type": "b"}}]}, "an event a and an event b"),
        ({"any": [], "until": [{"with": {"type": "end"}}]}, "any event, until an event end"),
        ({"other": 1}, ""),
        (None, ""),
    ],
)  # fmt: skip
def test_what_is_listened_for_is_told_in_a_few_words(listening: object, said: str) -> None:
    assert heard(listening) == said


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"message": "Ship\nit?", "outcomes": ["yes", "no"]}, "Ship it? (yes, no)"),
        ({"message": "Go?", "outcomes": ["ok"], "assignees": ["ada"], "deadline": "2026-01-01T00:00:00Z"},
         "Go? (ok) from ada until 2026-01-01T00:00:00Z"),
        ("?", "an answer"),
        ({}, "an answer"),
    ],
)  # fmt: skip
def test_what_a_person_is_asked_is_told_in_a_few_words(question: object, said: str) -> None:
    assert asked(question) == said


def test_a_failure_says_why() -> None:
    error = {"title": "Boom", "detail": "it broke\nbadly", "message": "Boom"}
    assert screen(task("a", Status.FAILED, error=error)) == ["✗ a  set  2.0 s  Boom: it broke"]


def test_of_a_long_loop_only_the_ends_are_shown_and_what_goes_on() -> None:
    loop = task("loop", Status.IN_PROGRESS, kind="for")
    turns = [task(f"t{number}", parent="loop", iteration=number) for number in range(100)]
    turns[50] = task("t50", Status.IN_PROGRESS, parent="loop", iteration=50)
    turns[60] = task("t60", Status.FAILED, parent="loop", iteration=60)
    shown = [item.id if isinstance(item, Task) else str(item) for _, item in rows(run(loop, *turns))]
    assert shown == [
        "loop",
        *("t0", "t1"),
        "… 48 more",
        "t50",
        "… 46 more, 1 of them failed",
        *("t97", "t98", "t99"),
    ]


def test_nothing_is_left_out_of_a_plain_list_of_tasks() -> None:
    tasks = [task(f"t{number}") for number in range(50)]
    assert not any(isinstance(item, Gap) for _, item in rows(run(*tasks)))


def test_names_command_no_terminal() -> None:
    assert "\x1b" not in "".join(screen(task("a", name="\x1b[2Jhidden")))
