"""Workflows that call agents, on a real stack: in one session, cancelled together, and through a death of it all."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.testing import Cli, wait_until

pytestmark = pytest.mark.slow

AGENT = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: helper}
spec:
  instructions: You help whoever asks you.
  approval_policies: [{tool: write_file, reason: files are precious}]
  env_spec: {data: {TOKEN: {is_secret: true}}}
"""
ECHO = 'turns: [{text: "You said $message."}]\n'
WRITES = """\
turns:
  - tool_calls: [{name: write_file, args: {file_path: /order.txt, content: one chair}}]
  - text: "Ordered."
"""
MAKES_IT = """\
turns:
  - tool_calls:
      - name: execute
        args: {command: "mkdir out && yes fedcba9876543210 | tr -d '\\n' | head -c 52428800 > out/text"}
  - text: Made.
"""
TURNS_IT = """\
turns:
  - tool_calls: [{name: execute, args: {command: tr a-f A-F < out/text > turned.txt}}]
  - text: Turned.
"""


def prepare(stack: Cli, folder: Path, **scripts: str) -> None:
    file = folder / "helper.yaml"
    file.write_text(AGENT)
    applied = stack.run("apply", "-f", str(file))
    assert applied.code == 0, applied.err
    place = stack.home / "scripts"
    place.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (place / f"{name}.yaml").write_text(text)


def workflow(folder: Path, tasks: str) -> str:
    file = folder / "calls.yaml"
    file.write_text(f"document: {{dsl: 1.0.3, namespace: shop, name: calls, version: 1.0.0}}\n{tasks}\n")
    return str(file)


def agent_runs(stack: Cli) -> list[Any]:
    return stack.run("get", "agentexecutions", "-o", "json").json["items"]


def test_a_workflow_talks_to_an_agent_in_one_session(stack: Cli, tmp_path: Path) -> None:
    prepare(stack, tmp_path, echo=ECHO)
    tasks = """
use: {secrets: [KEY]}
do:
- first:
    call: agent
    with:
      agent: helper
      message: hello
      config: {model: 'scripted:echo'}
      env: {TOKEN: '${.secrets.KEY}'}
      output: execution
- second:
    call: agent
    with: {agent: helper, message: '${ .output }', session: '${ .session }', config: {model: 'scripted:echo'}}
"""
    before = len(agent_runs(stack))
    done = stack.run("run", workflow(tmp_path, tasks), "--secret", "KEY=tok-123456", "-o", "json")
    assert done.json["output"] == "You said You said hello..", done.err
    first, second = sorted(agent_runs(stack)[: len(agent_runs(stack)) - before], key=lambda one: one["metadata"]["id"])
    assert first["spec"]["session_id"] == second["spec"]["session_id"]
    assert "tok-123456" not in str(first)
    assert first["spec"]["runtime_env"]["TOKEN"]["is_secret"] is True


@pytest.mark.parametrize(("verb", "phase"), [("cancel", "CANCELLED"), ("terminate", "TERMINATED")])
def test_whoever_ends_the_workflow_ends_the_agent(stack: Cli, tmp_path: Path, verb: str, phase: str) -> None:
    prepare(stack, tmp_path, writes=WRITES)
    config = "config: {model: 'scripted:writes'}"
    tasks = f"do:\n- ask: {{call: agent, with: {{agent: helper, message: to {verb}, {config}}}}}"
    run = stack.run("run", workflow(tmp_path, tasks), "--detach").out.strip()

    def newest() -> Any:
        found = [one for one in agent_runs(stack) if one["spec"]["message"] == f"to {verb}"]
        return found[0]["status"]["phase"] if found else None

    wait_until(lambda: newest() == "EXECUTION_WAITING_FOR_APPROVAL", lambda: f"the agent is {newest()}")
    assert stack.run(verb, run, "--wait").code == 0
    wait_until(lambda: newest() == f"EXECUTION_{phase}", lambda: f"the agent is {newest()}")


def test_50_mib_go_from_one_agent_to_another_and_come_back(stack: Cli, tmp_path: Path) -> None:
    prepare(stack, tmp_path, makes=MAKES_IT, turns=TURNS_IT)
    tasks = """
do:
- make:
    call: agent
    with:
      agent: helper
      message: make it
      config: {model: 'scripted:makes'}
      collect: [out/]
      output: execution
- turn:
    call: agent
    with:
      agent: helper
      message: turn it
      config: {model: 'scripted:turns'}
      files: '${ .files }'
      collect: [turned.txt]
      output: execution
- last: {set: {said: '${ .output }', path: '${ .files[0].path }', content: '${ .files[0].content }'}}
"""
    done = stack.run("run", workflow(tmp_path, tasks), "-o", "json")
    assert done.code == 0, done.out[-2000:]
    output = done.json["output"]
    assert (output["said"], output["path"]) == ("Turned.", "turned.txt")
    assert output["content"] == "FEDCBA9876543210" * (50 * 2**20 // 16)


def test_a_call_survives_the_death_of_everything_and_runs_the_agent_once(cli: Cli, tmp_path: Path) -> None:
    assert cli.run("up", "--detach").code == 0
    prepare(cli, tmp_path, writes=WRITES)
    tasks = "do:\n- ask: {call: agent, with: {agent: helper, message: go, config: {model: 'scripted:writes'}}}"
    run = cli.run("run", workflow(tmp_path, tasks), "--detach").out.strip()

    def phase() -> Any:
        found = agent_runs(cli)
        return found[0]["status"]["phase"] if found else None

    wait_until(lambda: phase() == "EXECUTION_WAITING_FOR_APPROVAL", lambda: f"the agent is {phase()}")
    for pid in cli.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cli.until_gone()
    assert cli.run("up", "--detach").code == 0
    (agent,) = agent_runs(cli)
    assert cli.run("approve", agent["metadata"]["id"]).code == 0
    watched = cli.run("watch", run, "-o", "json")
    assert (watched.json["phase"], watched.json["output"]) == ("COMPLETED", "Ordered.")
    assert len(agent_runs(cli)) == 1
