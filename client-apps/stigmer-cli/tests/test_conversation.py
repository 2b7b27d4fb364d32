from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from stigmer_cli.runs.agent import AgentRun, Call, Said
from stigmer_cli.runs.conversation import ConversationView


def call(identifier: str, status: str, **options: Any) -> Call:
    defaults: dict[str, Any] = {
        "id": identifier,
        "name": identifier,
        "arguments": {"n": 1},
        "status": status,
        "result": "fine" if status == "COMPLETED" else "",
        "error": "",
        "agent": "",
        "task": "",
        "started_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:00:00.012Z" if status == "COMPLETED" else "",
    }
    return Call(**(defaults | options))


def run(*messages: Said, calls: tuple[Call, ...] = ()) -> AgentRun:
    return AgentRun(
        id="aex-1",
        session="ses-1",
        phase="IN_PROGRESS",
        reason="",
        error=None,
        started_at="",
        completed_at="",
        messages=messages,
        calls=calls,
        why_waiting={},
    )


def ai(text: str, *calls: str) -> Said:
    return Said(by="AI", text=text, calls=calls)


def shown(capsys: pytest.CaptureFixture[str], *states: AgentRun) -> list[str]:
    with ConversationView() as view:
        for state in states:
            view.update(state)
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.splitlines()


def test_words_are_shown_as_they_come_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    states = [run(ai("Hel")), run(ai("Hello,")), run(ai("Hello,")), run(ai("Hello, Ada"))]
    assert shown(capsys, *states) == ["Hello, Ada"]


def test_why_a_run_failed_is_left_to_who_tells_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    notices = Said(by="SYSTEM", text="Trying again."), Said(by="SYSTEM", text="no key")
    assert shown(capsys, run(ai("So"), *notices)) == ["So", "Trying again.", "no key"]
    ended = replace(run(ai("So"), *notices), phase="FAILED", error={"message": "no key"})
    assert shown(capsys, ended) == ["So", "Trying again."]


def test_words_that_change_are_shown_anew(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, run(ai("the key is abc")), run(ai("the key is ***"))) == ["the key is abc", "the key is ***"]


def test_calls_stand_between_the_words_that_ask_for_them_and_what_is_made_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ai("I look.", "ls")
    states = [
        run(asked, calls=(call("ls", "PENDING"),)),
        run(asked, calls=(call("ls", "RUNNING"),)),
        run(asked, ai("Nothing there."), calls=(call("ls", "COMPLETED"),)),
    ]
    assert shown(capsys, *states) == ["I look.", "▸ ls(n=1)", "✓ ls  12 ms  fine", "Nothing there."]


def test_a_run_that_is_seen_late_is_told_in_the_same_order(capsys: pytest.CaptureFixture[str]) -> None:
    calls = (call("task", "COMPLETED"), call("grep", "COMPLETED", agent="scout", task="task"))
    assert shown(capsys, run(ai("Go.", "task"), ai("Done."), calls=calls)) == [
        "Go.",
        "▸ task(n=1)",
        "✓ task  12 ms  fine",
        "▸ scout: grep(n=1)",
        "✓ scout: grep  12 ms  fine",
        "Done.",
    ]


def test_a_call_that_waits_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = run(ai("", "pay"), calls=(call("pay", "WAITING_APPROVAL"),))
    refused = run(ai("", "pay"), calls=(call("pay", "SKIPPED", error="A person refused."),))
    assert shown(capsys, waiting, refused) == ["? pay(n=1)", "- pay  A person refused."]


def test_nobody_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31mred"
    state = run(ai(hostile, "ls"), calls=(call("ls", "COMPLETED", result=hostile, arguments={"p": hostile}),))
    told = "\n".join(shown(capsys, state))
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in told)
    assert "\x9b" not in told
    assert "red" in told
