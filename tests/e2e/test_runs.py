"""Controlling runs, and following what happens, on a real stack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.testing import Cli, Running, wait_until

SLOW = """\
document: {dsl: 1.0.0, namespace: e2e, name: slow, version: 1.0.0}
do:
  - nap: {wait: {minutes: 10}}
"""
FAILS = """\
document: {dsl: 1.0.0, namespace: e2e, name: fails, version: 1.0.0}
do:
  - begin: {set: {ready: true}}
  - boom: {raise: {error: {type: https://example.com/boom, status: 500, title: Boom}}}
"""
AGENT = "kind: Agent\nmetadata: {name: watched}\nspec: {instructions: Be short and kind.}\n"
NOBODY = "wex-01m82r6b428qhc55v1b3bm0877"


@pytest.fixture(scope="session")
def slow(stack: Cli) -> str:
    """A stored workflow that takes its time."""
    assert stack.run("apply", "-f", "-", stdin=SLOW).code == 0
    return "slow"


@pytest.fixture
def run(stack: Cli, slow: str) -> Iterator[str]:
    """A run that is in progress."""
    identifier = started(stack, slow)
    yield identifier
    stack.run("terminate", identifier)


def started(stack: Cli, workflow: str, *options: str) -> str:
    identifier = stack.run("run", workflow, "--detach", *options).out.strip()
    wait_until(lambda: phase(stack, identifier) != "PENDING", lambda: "never began")
    return identifier


def phase(stack: Cli, identifier: str) -> str:
    return stack.run("get", identifier, "-o", "json").json["status"]["phase"].removeprefix("EXECUTION_")


def items(result: Any, code: int = 0) -> list[dict[str, Any]]:
    assert result.code == code, result.err
    return result.json["items"]


def test_cancel_stops_runs_and_says_so_once(stack: Cli, run: str) -> None:
    first = items(stack.run("cancel", run, "--reason", "not needed", "--wait", "-o", "json"))
    assert first == [
        {"id": run, "kind": "WorkflowExecution", "phase": "CANCELLED", "changed": True, "reason": "not needed"}
    ]
    again = stack.run("cancel", f"workflow_execution/{run}")
    assert (again.code, again.out) == (0, f"{run} was cancelled already (not needed)\n")
    assert stack.run("cancel", run, "-o", "name").out == f"workflow_execution/{run}\n"
    other = stack.run("terminate", run)
    assert (other.code, other.out) == (4, "")


def test_terminate_answers_for_each_of_several_runs(stack: Cli, run: str) -> None:
    answered = items(stack.run("terminate", NOBODY, run, "--wait", "-o", "json"), code=3)
    assert [(item["id"], item.get("phase"), item.get("error", {}).get("exit_code")) for item in answered] == [
        (run, "TERMINATED", None),
        (NOBODY, None, 3),
    ]


def test_a_run_is_held_and_goes_on(stack: Cli, run: str) -> None:
    [paused] = items(stack.run("pause", run, "--wait", "-o", "json"))
    assert (paused["phase"], paused["changed"]) == ("PAUSED", True)
    assert stack.run("signal", run, "go", "--data", '{"n": 1}', "--key", "once").code == 0
    [resumed] = items(stack.run("resume", run, "-o", "json"))
    assert (resumed["phase"], resumed["changed"]) == ("IN_PROGRESS", True)
    assert stack.run("cancel", run, "--wait", "-o", "name").code == 0
    assert phase(stack, run) == "CANCELLED"


def test_a_failed_run_fails_again_when_nothing_has_changed(stack: Cli) -> None:
    failed = stack.run("run", "-", "-o", "json", stdin=FAILS)
    assert failed.code == 1
    run = failed.json["id"]
    again = stack.run("recover", run, "--wait")
    assert (again.code, again.out.startswith(f"{run} is failed: ")) == (1, True)
    assert stack.run("retry", run, "--from-task", "begin", "--wait").code == 1
    assert stack.run("recover", run, "--from-task", "nobody").code == 4
    assert stack.run("get", "runs", "--phase", "failed", "--parent", "workflow/fails", "-o", "name").out.split() == [
        f"workflow_execution/{run}"
    ]


def test_a_run_that_is_asked_for_twice_by_its_key_runs_once(stack: Cli, slow: str) -> None:
    first = started(stack, slow, "--idempotency-key", "once", "--input", '{"n": 1}')
    assert started(stack, slow, "--idempotency-key", "once", "--input", '{"n": 1}') == first
    assert started(stack, slow, "--idempotency-key", "twice", "--input", '{"n": 1}') != first
    assert stack.run("run", slow, "--detach", "--idempotency-key", "once", "--input", '{"n": 2}').code == 4


@pytest.mark.parametrize("command", ["cancel", "terminate", "pause", "resume", "recover", "retry"])
def test_what_is_no_run_is_refused(stack: Cli, command: str) -> None:
    assert stack.run(command, "nonsense").code == 2
    assert stack.run(command, "wfl-01m82r6b428qhc55v1b3bm0877").code == 2
    assert stack.run(command, NOBODY).code == 3
    assert stack.run(command).code == 2


def test_a_server_that_is_not_there_is_told_by_the_exit_code(stack: Cli) -> None:
    assert stack.run("cancel", NOBODY, "--server", "127.0.0.1:9").code == 5


def test_runs_are_listed_by_phase_and_by_what_they_belong_to(stack: Cli, run: str) -> None:
    running = stack.run("get", "runs", "--phase", "in-progress", "--parent", "workflow/slow", "-o", "name").out.split()
    assert f"workflow_execution/{run}" in running
    assert f"workflow_execution/{run}" not in stack.run("get", "runs", "--phase", "failed", "-o", "name").out
    page = stack.run("describe", run)
    assert (page.code, "nap" in page.out, "IN_PROGRESS" in page.out) == (0, True, True)


def test_a_watch_tells_every_change_once_also_over_a_restart(cli: Cli) -> None:
    assert cli.run("up", "--detach").code == 0
    assert cli.run("apply", "-f", "-", stdin=AGENT).code == 0
    watch = cli.start("get", "agents", "-w", "-o", "json")
    watch.until_said('"synced"')
    assert cli.run("apply", "-f", "-", stdin=AGENT.replace("short", "brief")).code == 0
    watch.until_said("Be brief")
    assert cli.run("down").code == 0
    watch.until_said("looking for the server")
    assert cli.run("up", "--detach").code == 0
    assert cli.run("apply", "-f", "-", stdin=AGENT.replace("short", "terse")).code == 0
    assert cli.run("delete", "agent", "watched").code == 0
    watch.until_said('"deleted"')
    assert interrupted(watch) == 130
    events = [json.loads(line) for line in watch.out]
    told = [
        (event["event"], event["resource"]["spec"]["instructions"] if event["resource"] else None) for event in events
    ]
    assert told[:3] == [("created", "Be short and kind."), ("synced", None), ("updated", "Be brief and kind.")]
    # The last state may have been overtaken by the deletion before it was sent.
    assert told[3:] in (
        [("updated", "Be terse and kind."), ("deleted", None)],
        [("updated", None), ("deleted", None)],
        [("deleted", None)],
    )
    token = events[1]["resume_token"]
    resumed = cli.start("get", "agents", "-w", "-o", "json", "--resume-token", token)
    resumed.until_said('"deleted"')
    assert interrupted(resumed) == 130
    assert cli.run("get", "agents", "-w", "--resume-token", "nonsense").code == 2


def interrupted(command: Running) -> int:
    command.interrupt()
    return command.wait().code


def test_a_new_project_runs_as_it_is(stack: Cli, tmp_path: Path) -> None:
    project = str(tmp_path / "shop")
    assert stack.run("new", project).code == 0
    done = stack.run("run", project, "-o", "json")
    assert (done.code, done.json["output"]) == (0, {"large": ["a-1"], "small": ["a-2"], "total": 128.5})
    assert stack.run("diff", "-f", project).code == 0


def test_the_status_tells_what_the_server_can_reach(stack: Cli) -> None:
    told = stack.run("status", "-o", "json")
    assert told.code == 0
    seen = told.json["server_state"]
    assert (seen["ready"], seen["address"]) == (True, told.json["server"])
    parts = {part["name"]: part["state"] for part in seen["components"]}
    assert parts == dict.fromkeys(("store", "temporal", "workflow-runner", "agent-runner"), "ready")
    alone = stack.run("status", "--server", told.json["server"], "-o", "json")
    assert (alone.code, alone.json["version"]) == (0, seen["version"])
    assert stack.run("doctor", "-o", "name").out.strip() == ""


def test_completion_offers_names_of_what_the_stack_holds(stack: Cli, run: str) -> None:
    def offered(*words: str) -> list[str]:
        line = {"COMP_WORDS": " ".join(["stigmer", *words]), "COMP_CWORD": str(len(words))}
        return stack.run(env={**line, "_STIGMER_COMPLETE": "complete_bash"}).out.split()

    assert "workflow" in offered("get", "work")
    assert offered("get", "wf", "sl") == ["slow"]
    assert offered("describe", "workflow/sl") == ["workflow/slow"]
    assert run in offered("cancel", "wex-")
    assert offered("get", "runs", "--phase", "in-") == ["in-progress"]
    assert offered("get", "wf", "nobody") == []
