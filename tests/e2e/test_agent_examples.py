"""Every agent in examples/agents/, and every workflow that calls one, is run with the script beside it.

Beside `NAME.yaml` stand `NAME.script.yaml`, what the scripted model says, and `NAME.expected.json`, what becomes of it;
where they are needed `NAME.options.json` (more options of `stigmer run`), `NAME.before.json` (commands to give first)
and `NAME.steps.json`: commands to give one after the other, each once the run waits, with RUN for its id.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.testing import Cli, wait_until

FOLDER = Path(__file__).parents[2] / "examples" / "agents"
EXAMPLES = sorted(path for path in FOLDER.glob("*.yaml") if path.with_suffix(".options.json").exists())

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_agent_does_what_stands_beside_it(example: Path, stack: Cli) -> None:
    for command in _commands(example, "before"):
        done = stack.run(*(str(FOLDER / word) if word.startswith("skills/") else word for word in command))
        assert done.code == 0, done.err
    script = str(example.with_suffix(".script.yaml"))
    started = stack.run("run", str(example), "--script", script, *_options(example), "--detach")
    assert started.code == 0, started.err
    identifier = started.out.strip()
    for step in _commands(example, "steps"):
        wait_until(lambda: _waits(stack, identifier), lambda: f"{identifier} waits for nobody")
        done = stack.run(*(word.replace("RUN", identifier) for word in step))
        assert done.code == 0, done.err
    ended = stack.run("watch", identifier, "-o", "json").json
    found = {"phase": ended["phase"], "output": ended["output"]}
    if identifier.startswith("aex-"):
        found["tool_calls"] = sorted(f"{call['name']} {call['status']}" for call in ended["tool_calls"])
    assert found == _beside(example, "expected")


def test_an_agent_on_a_schedule_works_when_its_moment_has_come(stack: Cli) -> None:
    applied = stack.run("apply", "-f", str(FOLDER / "digest.yaml"))
    assert applied.code == 0, applied.err
    triggered = stack.run("schedule", "trigger", "digest", "-o", "json")
    assert triggered.code == 0, triggered.err
    ended = stack.run("watch", triggered.json["execution_id"], "-o", "json").json
    assert (ended["phase"], ended["output"]["of"]) == ("COMPLETED", 2)
    assert "The mill got a new wheel" in ended["output"]["digest"], "the built-in model says what it was told"


def test_a_companion_remembers_from_one_line_to_the_next(stack: Cli) -> None:
    example = FOLDER / "companion.yaml"
    script = str(example.with_suffix(".script.yaml"))
    talk = stack.run("chat", str(example), "--script", script, stdin="My name is Ada.\nWho am I?\n")
    assert talk.code == 0, talk.err
    assert re.sub(r"\s+", " ", talk.out).startswith("Nice to meet you. You said: My name is Ada.")


def test_the_reviewer_waits_at_the_prompt_over_a_restart_of_everything(cli: Cli) -> None:
    pushed = cli.run("up", "--detach"), cli.run("skill", "push", str(FOLDER / "skills" / "review"))
    assert [done.code for done in pushed] == [0, 0], pushed
    script = str(FOLDER / "reviewer.script.yaml")
    terminal = cli.type(
        "run", str(FOLDER / "reviewer.yaml"), "--script", script, *_beside(FOLDER / "reviewer.yaml", "options")
    )
    terminal.until("I look at the change.")
    terminal.until("the review is what the team reads")
    terminal.until("[l]ater? ")
    terminal.type("\x03")
    terminal.until("stigmer watch aex-")
    assert terminal.end() == 130
    identifier = "aex-" + terminal.screen.split("`")[0]
    assert [cli.run("down").code, cli.run("up", "--detach").code] == [0, 0]
    wait_until(lambda: _waits(cli, identifier), lambda: "does not wait any more")
    terminal = cli.type("watch", identifier)
    terminal.until("[l]ater? ")
    terminal.type("a\n")
    terminal.until("The review is in review.md.")
    assert terminal.end() == 0


def test_a_script_that_cannot_be_used_is_refused_before_anything_is_stored(cli: Cli, tmp_path: Path) -> None:
    agent = str(FOLDER / "analyst.yaml")
    missing = cli.run("run", agent, "-m", "x", "--script", str(tmp_path / "no.yaml"))
    both = cli.run("run", agent, "-m", "x", "--script", agent, "--model", "openai:m")
    elsewhere = cli.run("run", agent, "-m", "x", "--script", agent, "--server", "stigmer.example:443")
    assert [done.code for done in (missing, both, elsewhere)] == [2, 2, 4]
    assert "STIGMER_SCRIPTS_FOLDER" in elsewhere.err


def test_there_are_agents_for_everything() -> None:
    assert len(list(FOLDER.glob("*.script.yaml"))) >= 8


def _beside(example: Path, what: str) -> Any:
    path = example.with_suffix(f".{what}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _options(example: Path) -> list[str]:
    return [str(FOLDER / word) if word.startswith("files/") else word for word in _beside(example, "options")]


def _commands(example: Path, what: str) -> list[list[str]]:
    return _beside(example, what) or []


def _waits(stack: Cli, identifier: str) -> bool:
    """Whether the run waits for a person; calls that were decided on are not told of again while it goes on."""
    return stack.run("get", identifier, "-o", "json").json["status"]["phase"] == "EXECUTION_WAITING_FOR_APPROVAL"
