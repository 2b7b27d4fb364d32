"""Agents at the prompt, on a real stack: running, deciding, talking."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stigmer_cli.testing import Cli, wait_until

BUYER = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: buyer}
spec:
  instructions: You buy what the team needs.
  can_ask: true
  approval_policies: [{tool: write_file, reason: files are precious}]
"""
WRITES = """\
turns:
  - text: I write it down.
    tool_calls: [{name: write_file, args: {file_path: /order.txt, content: one chair}}]
  - text: "Ordered: $result"
"""
ASKS = """\
turns:
  - tool_calls: [{name: ask_person, args: {question: "Which colour?", options: [red, blue]}}]
  - text: "It will be $result"
"""
SLOW = """\
turns: [{text: one two three four five, pace: 5}]
"""
QUICK = """\
turns: [{text: "You said $message.", usage: {input: 10, output: 2}}]
"""


@pytest.fixture
def buyer(tmp_path: Path) -> str:
    path = tmp_path / "buyer.yaml"
    path.write_text(BUYER)
    return str(path)


@pytest.fixture(scope="session")
def script(stack: Cli) -> Callable[[str, str], str]:
    """Gives the stack's scripted model something to say; returns the model's name."""
    folder = stack.home / "scripts"
    folder.mkdir(exist_ok=True)

    def write(name: str, text: str) -> str:
        (folder / f"{name}.yaml").write_text(text)
        return f"scripted:{name}"

    return write


def test_a_person_allows_a_call_at_the_prompt(stack: Cli, buyer: str, script: Callable[[str, str], str]) -> None:
    terminal = stack.type("run", buyer, "-m", "Buy a chair", "--model", script("writes", WRITES))
    terminal.until("I write it down.")
    terminal.until("? write_file(")
    terminal.until("write_file waits for you: files are precious")
    terminal.until("[l]ater? ")
    terminal.type("a\n")
    terminal.until("✓ write_file")
    terminal.until("Ordered: Updated file /workspace/order.txt")
    assert terminal.end() == 0


def test_a_person_changes_what_is_written(stack: Cli, buyer: str, script: Callable[[str, str], str]) -> None:
    terminal = stack.type("run", buyer, "-m", "Buy a chair", "--model", script("writes", WRITES))
    terminal.until("[l]ater? ")
    terminal.type("e\n")
    terminal.until("arguments (JSON): ")
    terminal.type("{broken\n")
    terminal.until("this is not JSON")
    terminal.type("e\n")
    terminal.until("arguments (JSON): ")
    terminal.type('{"file_path": "/other.txt", "content": "two"}\n')
    terminal.until("Ordered: Updated file /workspace/other.txt")
    assert terminal.end() == 0


def test_an_agents_question_is_answered_at_the_prompt(
    stack: Cli, buyer: str, script: Callable[[str, str], str]
) -> None:
    terminal = stack.type("run", buyer, "-m", "Paint it", "--model", script("asks", ASKS))
    terminal.until("Which colour?")
    terminal.until("red / blue")
    terminal.until("your answer: ")
    terminal.type("blue\n")
    terminal.until("It will be blue")
    assert terminal.end() == 0


def test_without_a_terminal_a_run_waits_for_a_decision_from_elsewhere(
    stack: Cli, buyer: str, script: Callable[[str, str], str]
) -> None:
    running = stack.start("run", buyer, "-m", "Buy", "--model", script("writes", WRITES), "-o", "table")
    running.until_said("stigmer approve aex-")
    (line,) = (line for line in running.err if "stigmer approve" in line)
    identifier = line.partition("stigmer approve ")[2].split()[0]
    assert stack.run("reject", identifier, "--comment", "too dear").code == 0
    ended = running.wait()
    assert ended.code == 0
    assert "too dear" in ended.out
    watched = stack.run("watch", identifier, "-o", "json")
    assert (watched.json["phase"], watched.json["tool_calls"][0]["status"]) == ("COMPLETED", "SKIPPED")


def test_the_result_of_an_agent_is_one_document(stack: Cli, buyer: str, script: Callable[[str, str], str]) -> None:
    done = stack.run("run", buyer, "-m", "hello", "--model", script("quick", QUICK), "-o", "json")
    assert (done.code, done.err) == (0, "")
    assert done.json["output"] == "You said hello."
    assert done.json["session_id"].startswith("ses-")
    assert (
        done.json["usage"] == done.json["session_usage"] == {"model_calls": 1, "input_tokens": 10, "output_tokens": 2}
    )
    again = stack.run("run", "buyer", "-m", "more", "--model", "scripted:quick", "--session", done.json["session_id"])
    assert (again.code, again.out) == (0, "You said more.\n")


def test_runs_are_those_of_agents_and_of_workflows(
    stack: Cli, buyer: str, script: Callable[[str, str], str], tmp_path: Path
) -> None:
    document = "document: {dsl: 1.0.3, namespace: test, name: both, version: 1.0.0}\ndo: [{a: {set: {n: 1}}}]\n"
    (tmp_path / "both.yaml").write_text(document, encoding="utf-8")
    of_workflow = stack.run("run", str(tmp_path / "both.yaml"), "-o", "json").json["id"]
    of_agent = stack.run("run", buyer, "-m", "hello", "--model", script("quick", QUICK), "-o", "json").json["id"]
    named = [f"agent_execution/{of_agent}", f"workflow_execution/{of_workflow}"]
    found = stack.run("get", "runs", "-o", "name", "--phase", "completed").out.split()
    assert [name for name in found if name in named] == named
    assert stack.run("get", "runs", "-n", "1", "-o", "name").out.split() == found[:1]
    assert named[0] in stack.run("get", "runs", "--parent", "agent/buyer", "-o", "name").out.split()
    assert stack.run("get", "runs", "--parent", "workflow/both", "-o", "name").out.split() == named[1:]
    assert stack.run("get", "runs", of_agent, "-o", "name").out.split() == named[:1]
    watch = stack.start("get", "runs", "-w", "-o", "name")
    wait_until(lambda: set(named) <= {line.strip() for line in watch.out}, lambda: f"told {watch.out}")
    watch.interrupt()
    assert watch.wait().code == 130


def test_runs_have_the_variables_of_environments(
    stack: Cli, buyer: str, script: Callable[[str, str], str], tmp_path: Path
) -> None:
    tells = "turns: [{tool_calls: [{name: execute, args: {command: 'echo $REGION $TEAM'}}]}, {text: $result}]"
    model = script("tells", tells.replace("$REGION $TEAM", "$$REGION $$TEAM"))
    assert stack.run("env", "set", "everywhere", "REGION=eu", "TEAM=all").code == 0
    assert stack.run("env", "set", "staging", "TEAM=core").code == 0
    both = ("--env-from", "everywhere", "--env-from", "staging")
    first = stack.run("run", buyer, "-m", "Where?", "--model", model, *both, "-o", "json")
    assert (first.code, first.json["output"].split("\n")[0]) == (0, "eu core"), first.err
    own = stack.run("run", "buyer", "-m", "Where?", "--model", model, *both, "--env", "TEAM=mine")
    assert own.out.split("\n")[0] == "eu mine"
    goes_on = stack.run("run", "buyer", "-m", "Where?", "--model", model, "--session", first.json["session_id"])
    assert goes_on.out.split("\n")[0] == "eu core"
    talk = stack.run("chat", "buyer", "--model", model, *both, stdin="Where?\nWhere?\n")
    assert talk.out.count("eu core") == 2
    assert stack.run("get", "agentinstances", "-o", "name").out.count("buyer-with-everywhere-staging") == 1

    (tmp_path / "where.yaml").write_text(
        "kind: Workflow\nmetadata: {name: where}\nspec:\n  env_spec: {data: {REGION: {}}}\n  definition: |\n"
        "    document: {dsl: 1.0.3, namespace: test, name: where, version: 1.0.0}\n"
        "    do: [{tell: {set: {region: '${.env_vars.REGION}'}}}]\n"
    )
    assert stack.run("run", str(tmp_path / "where.yaml")).code == 2
    ran = stack.run("run", str(tmp_path / "where.yaml"), "--env-from", "everywhere", "-o", "json")
    assert (ran.code, ran.json["phase"]) == (0, "COMPLETED"), "what it declares has a value"
    assert stack.run("run", buyer, "-m", "x", "--env-from", "nowhere").code == 3
    again = stack.run("run", buyer, "-m", "x", "--session", first.json["session_id"], *both)
    assert (again.code, "a session keeps its environments" in again.err) == (2, True)


def test_what_a_run_cannot_take_is_refused_before_anything_is_stored(stack: Cli, buyer: str) -> None:
    for options in ([], ["-m", "x", "--input", "{}"]):
        assert stack.run("run", buyer, *options).code == 2
    refused = stack.run("run", "nobody-knows-this")
    assert refused.code == 3
    assert "no workflow and no agent" in refused.err


def test_a_talk_remembers_its_session_and_survives_an_interruption(
    stack: Cli, buyer: str, script: Callable[[str, str], str]
) -> None:
    script("talk", QUICK)
    terminal = stack.type("chat", buyer, "--model", "scripted:talk")
    terminal.until("> ")
    terminal.type("hello\n")
    terminal.until("You said hello.")
    terminal.until("> ")
    terminal.type("again\n")
    terminal.until("You said again.")
    terminal.until("> ")
    terminal.type("/exit\n")
    terminal.until("so far: 2 model calls, 24 tokens")
    terminal.until("go on later with `stigmer chat ")
    assert terminal.end() == 0
    session = terminal.screen.split("`")[0]
    later = stack.run("chat", session, "--model", "scripted:talk", stdin="third\n\nfourth\n")
    assert later.code == 0, later.err
    assert later.out == "You said third.\nYou said fourth.\n"
    listed = stack.run("get", "agentexecutions", "-o", "json").json["items"]
    assert sum(item["spec"]["session_id"] == session for item in listed) == 4


def test_a_talk_goes_on_in_two_ways(stack: Cli, buyer: str, script: Callable[[str, str], str]) -> None:
    model = script("talk", QUICK)
    talk = stack.run("chat", buyer, "--model", model, stdin="one\ntwo\n")
    session = talk.err.partition("go on later with `stigmer chat ")[2].partition("`")[0]
    first, _ = sorted(_runs_of(stack, session))
    forked = stack.run("session", "fork", session, "--at", first, "--name", "Other way", "-o", "json")
    assert forked.code == 0, forked.err
    assert forked.json["forked_from"] == {"session": session, "execution": first, "message": None}
    fork = forked.json["id"]
    assert stack.run("chat", fork, "--model", model, stdin="three\n").out == "You said three.\n"
    (third,) = _runs_of(stack, fork)
    assert first in _runs_of(stack, session)
    assert "Other way" in stack.run("get", "sessions").out

    asked = stack.run("session", "fork", "session/other-way", "--at", third, "--unanswered", "-o", "json")
    assert asked.json["forked_from"] == {"session": fork, "execution": third, "message": third}
    again = stack.run("session", "fork", session)
    assert again.out.startswith("ses-")
    assert f"stigmer chat {again.out.strip()}" in again.err
    refused = stack.run("session", "fork", session, "--at", third)
    assert (refused.code != 0, f"{third} is an execution of {fork}" in refused.err) == (True, True)
    assert stack.run("session", "fork", session, "--unanswered").code == 2


def _runs_of(stack: Cli, session: str) -> list[str]:
    listed = stack.run("get", "agentexecutions", "-o", "json").json["items"]
    return [item["metadata"]["id"] for item in listed if item["spec"]["session_id"] == session]


def test_an_answer_is_interrupted_and_the_talk_goes_on(
    stack: Cli, buyer: str, script: Callable[[str, str], str]
) -> None:
    model = script("slow", SLOW)
    terminal = stack.type("chat", buyer, "--model", model)
    terminal.until("> ")
    terminal.type("count\n")
    terminal.until("one")
    terminal.type("\x03")
    terminal.until("> ")
    script("slow", QUICK)
    terminal.type("better\n")
    terminal.until("You said better.")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_an_agent_waits_over_a_restart_of_everything(cli: Cli, buyer: str) -> None:
    (cli.home / "scripts").mkdir(parents=True)
    (cli.home / "scripts" / "writes.yaml").write_text(WRITES)
    terminal = cli.type("run", buyer, "-m", "Buy a chair", "--model", "scripted:writes")
    terminal.until("[l]ater? ")
    terminal.type("\x03")
    terminal.until("stigmer watch aex-")
    assert terminal.end() == 130
    identifier = "aex-" + terminal.screen.split("`")[0]
    assert cli.run("up", "--detach").code == 0
    wait_until(
        lambda: (
            json.loads(cli.run("get", identifier, "-o", "json").out)["status"]["phase"]
            == "EXECUTION_WAITING_FOR_APPROVAL"
        ),
        lambda: "does not wait any more",
    )
    terminal = cli.type("watch", identifier)
    terminal.until("[l]ater? ")
    terminal.type("a\n")
    terminal.until("Ordered: Updated file /workspace/order.txt")
    assert terminal.end() == 0
