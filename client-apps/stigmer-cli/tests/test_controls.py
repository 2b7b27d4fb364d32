"""The commands that control runs, over a server inside this process that starts none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from stigmer_cli.environment import Home
from stigmer_cli.stack.server import EmbeddedServer

WORKFLOW = """\
document: {dsl: 1.0.0, namespace: docs, name: greet, version: 1.0.0}
do:
  - hello: {set: {greeting: hello}}
"""
AGENT = "kind: Agent\nmetadata: {name: clerk}\nspec: {instructions: Answer in one short sentence.}\n"
_PACKAGE = "ai.stigmer.agentic.{0}.v1.{1}CommandController"


class Runs:
    """Runs of a server that no runner serves: they are made, and reported on, as a test wants it."""

    def __init__(self, home: Home, stigmer: Any, folder: Path) -> None:
        self._home = home
        self._stigmer = stigmer
        (folder / "all.yaml").write_text(f"{WORKFLOW}---\n{AGENT}")
        assert stigmer("apply", "-f", folder / "all.yaml").code == 0

    def workflow(self, **status: Any) -> str:
        """Make a run of the workflow, in the state that is reported of it."""
        spec = {"workflowId": self._id("workflow/greet")}
        return self._make(
            "workflowexecution", "WorkflowExecution", {"name": f"run {uuid4()}", "ownerScope": 2}, spec, status
        )

    def agent(self, **status: Any) -> str:
        """Make a run of the agent."""
        spec = {"agentId": self._id("agent/clerk"), "message": "Who are you?"}
        return self._make("agentexecution", "AgentExecution", {"name": f"turn {uuid4()}"}, spec, status)

    def _id(self, reference: str) -> str:
        return json.loads(self._stigmer("get", reference, "-o", "json").out)["metadata"]["id"]

    def _make(self, package: str, kind: str, metadata: dict[str, Any], spec: Any, status: Any) -> str:
        async def make(server: EmbeddedServer) -> str:
            service = server.channel().service(_PACKAGE.format(package, kind))
            resource = {"apiVersion": "agentic.stigmer.ai/v1", "kind": kind, "metadata": {"org": "local", **metadata}}
            made = await service.unary("create", {**resource, "spec": spec})
            if status:
                await service.unary("updateStatus", {"executionId": made.metadata.id, "status": status})
            return made.metadata.id

        return asyncio.run(self._on_server(make))

    async def _on_server(self, work: Callable[[EmbeddedServer], Coroutine[Any, Any, str]]) -> str:
        async with EmbeddedServer(self._home) as server:
            return await work(server)


@pytest.fixture
def runs(home: Home, stigmer: Any, tmp_path: Path) -> Runs:
    return Runs(home, stigmer, tmp_path)


def items(result: Any, code: int = 0) -> list[dict[str, Any]]:
    assert result.code == code, result.err
    return json.loads(result.out)["items"]


@pytest.mark.requirement("control.command", "control.cancel")
@pytest.mark.parametrize("kind", ["workflow", "agent"])
def test_runs_are_held_go_on_and_end(stigmer: Any, runs: Runs, kind: str) -> None:
    run = getattr(runs, kind)(phase="EXECUTION_IN_PROGRESS")
    [paused] = items(stigmer("pause", run, "--reason", "lunch", "-o", "json"))
    assert (paused["phase"], paused["changed"], paused["reason"]) == ("PAUSED", True, "lunch")
    assert stigmer("pause", run).out == f"{run} was paused already (lunch)\n"
    assert stigmer("resume", run).out == f"{run} goes on; it is in progress\n"
    [again] = items(stigmer("resume", run, "-o", "json"))
    assert (again["phase"], again["changed"]) == ("IN_PROGRESS", False)
    assert stigmer("recover", run).code == 4
    [ended] = items(stigmer("terminate", run, "-o", "json"))
    assert (ended["phase"], ended["changed"]) == ("TERMINATED", True)
    for command in ("pause", "resume", "cancel"):
        refused = stigmer(command, run)
        assert (refused.code, refused.out) == (4, ""), command


@pytest.mark.requirement("control.command")
@pytest.mark.parametrize("kind", ["workflow", "agent"])
def test_a_failed_run_is_run_again(stigmer: Any, runs: Runs, kind: str) -> None:
    run = getattr(runs, kind)(phase="EXECUTION_FAILED", error="the disk is full")
    assert stigmer("recover", run, "--reason", "made room").out == f"{run} runs again; it is pending\n"
    assert "the disk is full" not in stigmer("get", run, "-o", "yaml").out


def test_only_a_run_of_a_workflow_begins_with_a_task(stigmer: Any, runs: Runs) -> None:
    failed = runs.agent(phase="EXECUTION_FAILED", error="x")
    refused = stigmer("retry", failed, "--from-task", "hello")
    assert (refused.code, "has no tasks" in refused.err) == (2, True)
    unknown = runs.workflow(phase="EXECUTION_FAILED", error="x")
    assert stigmer("recover", unknown, "--from-task", "nobody").code == 4


def test_every_run_gets_its_answer_and_the_first_trouble_is_the_exit_code(stigmer: Any, runs: Runs) -> None:
    ended = runs.workflow(phase="EXECUTION_COMPLETED")
    going = runs.workflow(phase="EXECUTION_IN_PROGRESS")
    nobody = "wex-01m82r6b428qhc55v1b3bm0877"
    answered = items(stigmer("terminate", ended, nobody, going, going, "-o", "json"), code=4)
    assert [(item["id"], item.get("phase")) for item in answered] == [
        (going, "TERMINATED"),
        (ended, None),
        (nobody, None),
    ]
    assert [item["error"]["exit_code"] for item in answered[1:]] == [4, 3]


@pytest.mark.requirement("control.command")
def test_signals_are_sent_and_count_once_by_their_key(stigmer: Any, runs: Runs, tmp_path: Path) -> None:
    run = runs.workflow()
    assert stigmer("signal", run, "go", "--data", '{"n": 1}', "--key", "a").out == f"{run} was sent the signal go\n"
    assert stigmer("signal", run, "go", "--data", "-", "--key", "a", stdin='{"n": 1}').code == 0
    (tmp_path / "other.yaml").write_text("n: 2\n")
    assert stigmer("signal", run, "go", "--data", f"@{tmp_path / 'other.yaml'}", "--key", "a").code == 4
    assert items(stigmer("signal", run, "go", "-o", "json"))[0]["phase"] == "PENDING"
    assert stigmer("signal", run, "go", "--data", "{n: 1}").code == 2
    assert stigmer("signal", "wex-01m82r6b428qhc55v1b3bm0877", "go").code == 3
    assert stigmer("signal", runs.agent(), "go").code == 2


def task(name: str, identifier: str) -> dict[str, Any]:
    return {"taskId": identifier, "taskName": name, "status": "WORKFLOW_TASK_WAITING_FOR_APPROVAL"}


@pytest.mark.requirement("control.command", "control.answer")
def test_the_task_that_waits_is_answered(stigmer: Any, runs: Runs) -> None:
    run = runs.workflow(phase="EXECUTION_IN_PROGRESS", tasks=[task("review", "1")])
    approved = stigmer("approve", run, "--data", '{"amount": 12}', "-m", "fine")
    assert (approved.code, approved.out) == (0, f"{run} was answered: approved\n")
    assert stigmer("approve", run, "review", "--data", '{"amount": 12}', "-m", "fine").code == 0
    assert stigmer("reject", run, "review").code == 4
    assert stigmer("approve", run, "--data", "[1]").code == 2
    other = runs.workflow(phase="EXECUTION_IN_PROGRESS", tasks=[task("review", "1"), task("sign", "2")])
    unsaid = stigmer("reject", other)
    assert (unsaid.code, "review, sign" in unsaid.err) == (2, True)
    assert stigmer("reject", other, "sign", "--outcome", "later").out == f"{other} was answered: later\n"
    assert stigmer("approve", runs.workflow()).code == 4


@pytest.mark.parametrize("options", [("approve",), ("reject",), ("reject", "--skip")])
def test_the_tool_call_that_waits_is_decided_on(stigmer: Any, runs: Runs, options: tuple[str, ...]) -> None:
    call = {"id": "call-1", "name": "rm", "status": "TOOL_CALL_WAITING_APPROVAL"}
    run = runs.agent(phase="EXECUTION_WAITING_FOR_APPROVAL", toolCalls=[call])
    assert stigmer(*options, run, "-m", "as I said").code == 0
    assert stigmer(*options, run, "call-1", "-m", "as I said").code == 0
    assert stigmer("approve", run, "call-1", "-m", "otherwise").code == 4
    assert stigmer("reject", run, "--data", '{"a": 1}').code == 2
    assert stigmer("approve", run, "--data", '{"a": 1}').code == 4
    assert stigmer("approve", run, "call-2").code == 4
