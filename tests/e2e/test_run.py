"""`stigmer run` from an empty home, and on a stack that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stigmer_cli.testing import Cli, CountingSite

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.yaml"
HEADER = "document: {dsl: 1.0.0, namespace: tests, name: NAME, version: 1.0.0}\n"

pytestmark = pytest.mark.slow


def workflow(folder: Path, name: str, tasks: str, *, head: str = "") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(f"{HEADER.replace('NAME', name)}{head}do:\n{tasks}", encoding="utf-8")
    return str(path)


def test_one_command_takes_an_empty_home_to_a_result_and_leaves_nothing_running(cli: Cli) -> None:
    done = cli.run("run", str(QUICKSTART))
    assert done.code == 0, done.err
    assert set(json.loads(done.out)) == {"healthy", "up", "down"}
    assert "stigmer up --detach" in done.err
    lines = [line.split() for line in done.err.splitlines()]
    assert ["✓", "decide", "[0]", "switch", "completed", "0", "ms"] in lines
    assert any(line[1:5] == ["ask", "[1]", "call", "http"] and "failed" in line for line in lines)
    assert cli.processes() == {}


def test_json_is_exactly_one_object_on_standard_output(stack: Cli, tmp_path: Path) -> None:
    done = stack.run("run", workflow(tmp_path, "count", "  - once: {set: {n: 3}}\n"), "-o", "json")
    assert (done.code, done.err) == (0, "")
    run = done.json
    assert {key: run[key] for key in ("phase", "output", "error")} == {
        "phase": "COMPLETED",
        "output": {"n": 3},
        "error": None,
    }
    assert run["id"].startswith("wex-")
    (task,) = run["tasks"]
    assert {
        key: task[key] for key in ("name", "kind", "status", "output", "error", "parent", "iteration", "attempt")
    } == {
        "name": "once",
        "kind": "set",
        "status": "COMPLETED",
        "output": {"n": 3},
        "error": None,
        "parent": None,
        "iteration": None,
        "attempt": 1,
    }
    assert task["started_at"] <= task["completed_at"]
    assert [type(value["n"]) for value in (run["output"], task["output"])] == [int, int]


def test_a_run_that_fails_says_why_and_exits_with_one(stack: Cli, tmp_path: Path) -> None:
    error = "{type: https://example.test/out-of-milk, status: 418, title: No milk}"
    tasks = f"  - stop:\n      raise:\n        error: {error}\n"
    path = workflow(tmp_path, "tea", tasks)
    told = stack.run("run", path)
    assert (told.code, told.out) == (1, "")
    assert "No milk" in told.err
    done = stack.run("run", path, "-o", "json")
    assert done.code == 1
    assert done.json["phase"] == "FAILED"
    error = done.json["error"]
    assert (error["type"], error["status"], error["title"]) == ("https://example.test/out-of-milk", 418, "No milk")
    assert "No milk" in error["message"]
    assert done.json["tasks"][0]["error"]["status"] == 418


def test_a_bad_expression_is_told_at_its_place_and_nothing_is_stored(cli: Cli, tmp_path: Path) -> None:
    path = workflow(tmp_path, "bad", '  - ok: {set: {a: 1}}\n  - wrong: {set: {b: "${ .a + }"}}\n')
    done = cli.run("run", path)
    assert (done.code, done.out) == (2, "")
    assert f"{path}:4:" in done.err
    assert "/do/1/wrong" in done.err
    assert cli.run("get", "workflows", "-o", "json").json == {"items": []}


@pytest.mark.parametrize("given", ['{"n": "three"}', '{"n": ', "[1]", "@missing.json"])
def test_an_input_that_does_not_fit_is_refused_before_anything_is_stored(cli: Cli, tmp_path: Path, given: str) -> None:
    head = "input: {schema: {document: {type: object, required: [n], properties: {n: {type: integer}}}}}\n"
    path = workflow(tmp_path, "strict", "  - ok: {set: {a: 1}}\n", head=head)
    done = cli.run("run", path, "--input", given)
    assert done.code == 2
    assert "--input" in done.err
    assert cli.run("get", "workflows", "-o", "json").json == {"items": []}


@pytest.mark.parametrize("way", ["text", "file", "stdin"])
def test_an_input_comes_as_text_as_a_file_or_on_standard_input(stack: Cli, tmp_path: Path, way: str) -> None:
    path = workflow(tmp_path, f"echo-{way}", '  - say: {set: {said: "${ .word }"}}\n')
    value = '{"word": "hé"}'
    (tmp_path / "input.json").write_text(value, encoding="utf-8")
    given = {"text": value, "file": f"@{tmp_path / 'input.json'}", "stdin": "-"}[way]
    done = stack.run("run", path, "--input", given, stdin=value if way == "stdin" else None)
    assert (done.code, json.loads(done.out)) == (0, {"said": "hé"})


def test_a_message_reaches_the_input(stack: Cli, tmp_path: Path) -> None:
    path = workflow(tmp_path, "message", '  - say: {set: {said: "${ .message }"}}\n')
    assert json.loads(stack.run("run", path, "--message", "hello").out) == {"said": "hello"}


def test_a_stored_workflow_is_run_by_name_and_by_id(stack: Cli, tmp_path: Path) -> None:
    path = workflow(tmp_path, "stored", "  - one: {set: {n: 1}}\n")
    applied = stack.run("apply", "-f", path, "-o", "json").json["resources"][0]
    for reference in ("stored", "workflow/stored", "local/stored", applied["id"]):
        assert stack.run("run", reference, "-o", "json").json["output"] == {"n": 1}, reference
    missing = stack.run("run", "nowhere")
    assert missing.code == 3
    assert "stigmer get workflow" in missing.err


def test_a_detached_run_can_be_watched_to_its_end(stack: Cli, tmp_path: Path, site: CountingSite) -> None:
    path = workflow(tmp_path, "gated", f"  - wait: {{call: http, with: {{method: get, endpoint: {site.url}/gated}}}}\n")
    started = stack.run("run", path, "--detach", "-o", "json")
    assert (started.code, started.json["phase"]) == (0, "PENDING")
    watching = stack.start("watch", started.json["id"])
    site.gate.set()
    done = watching.wait()
    assert (done.code, json.loads(done.out)) == (0, {"path": "/gated", "count": 1})
    assert stack.run("watch", started.json["id"], "-o", "json").json["phase"] == "COMPLETED"


def test_detach_needs_a_stack_that_stays(cli: Cli, tmp_path: Path) -> None:
    done = cli.run("run", workflow(tmp_path, "x", "  - one: {set: {n: 1}}\n"), "--detach")
    assert done.code == 5
    assert "stigmer up --detach" in done.err


def test_two_runs_at_once_in_an_empty_home_both_come_to_their_end(cli: Cli, tmp_path: Path) -> None:
    short = cli.start("run", workflow(tmp_path, "short", "  - rest: {wait: PT1S}\n  - finish: {set: {n: 1}}\n"))
    long = cli.start("run", workflow(tmp_path, "long", "  - rest: {wait: PT5S}\n  - finish: {set: {n: 2}}\n"))
    results = [running.wait() for running in (short, long)]
    assert [(done.code, json.loads(done.out)) for done in results] == [(0, {"n": 1}), (0, {"n": 2})], results


def test_which_of_several_workflows_is_run_is_said_by_name(stack: Cli, tmp_path: Path) -> None:
    first = Path(workflow(tmp_path, "first", "  - one: {set: {n: 1}}\n")).read_text()
    second = Path(workflow(tmp_path, "second", "  - one: {set: {n: 2}}\n")).read_text()
    both = tmp_path / "both.yaml"
    both.write_text(f"{first}---\n{second}")
    unsaid = stack.run("run", str(both))
    assert unsaid.code == 2
    assert "first, second" in unsaid.err
    assert json.loads(stack.run("run", str(both), "--name", "second").out) == {"n": 2}


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_go_on(stack: Cli, tmp_path: Path, site: CountingSite) -> None:
    path = workflow(tmp_path, "held", f"  - wait: {{call: http, with: {{method: get, endpoint: {site.url}/gated}}}}\n")
    running = stack.start("run", path)
    running.until_said("held  wex-")
    running.interrupt()
    done = running.wait()
    assert (done.code, done.out) == (130, "")
    identifier = next(word for word in done.err.split() if word.startswith("wex-"))
    assert f"stigmer watch {identifier}" in done.err
    site.gate.set()
    assert stack.run("watch", identifier).code == 0
