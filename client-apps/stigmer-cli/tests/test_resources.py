"""The commands on resources, over a server inside this process."""

from __future__ import annotations

import json
import os
import pty
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.testing import PATIENCE, Cli

Write = Callable[[str, str], Path]

AGENT = """\
kind: Agent
metadata:
  name: release-notes
  labels: {app: docs}
spec:
  instructions: Read the merged changes and write short notes.
"""
PLAIN = """\
document: {dsl: 1.0.0, namespace: docs, name: greet, version: 1.0.0}
do:
  - hello: {set: {greeting: hello}}
"""
ENVIRONMENT = """\
kind: Environment
metadata: {name: staging}
spec:
  data:
    REGION: {value: eu-west-1}
    TOKEN: {value: hunter2, is_secret: true}
    OTHER: {value: hunter2, is_secret: true}
"""


def read(result: Any) -> Any:
    assert result.code in {0, 1}, result.err
    return json.loads(result.out)


def statuses(result: Any) -> dict[str, str]:
    return {item["name"]: item["status"] for item in read(result)["resources"]}


class TestDiff:
    def test_shows_what_apply_would_change_and_changes_nothing(self, stigmer: Any, write: Write) -> None:
        path = write("agent.yaml", AGENT)
        new = stigmer("diff", "-f", path)
        assert new.code == 1
        assert "--- /dev/null\n+++ agent/release-notes in " in new.out
        assert "+  name: release-notes\n" in new.out
        assert stigmer("get", "agents", "-o", "name").out.strip() == ""
        stigmer("apply", "-f", path)
        same = stigmer("diff", "-f", path)
        assert (same.code, same.out) == (0, "")
        write("agent.yaml", AGENT.replace("short", "terse"))
        changed = stigmer("diff", "-f", path)
        assert changed.code == 1
        lines = [line for line in changed.out.splitlines() if line[0] in "+-"]
        assert lines == [
            "--- agent/release-notes version 1",
            f"+++ agent/release-notes in {path}",
            "-  instructions: Read the merged changes and write short notes.",
            "+  instructions: Read the merged changes and write terse notes.",
        ]
        assert "short" in stigmer("get", "agent", "release-notes", "-o", "yaml").out

    def test_has_a_form_for_programs(self, stigmer: Any, write: Write) -> None:
        stigmer("apply", "-f", write("agent.yaml", AGENT))
        path = write("both.yaml", f"{AGENT}---\n{PLAIN}")
        told = read(stigmer("diff", "-f", path, "-o", "json"))
        assert told["different"] is True
        by_name = {item["name"]: item for item in told["resources"]}
        assert by_name["release-notes"]["status"] == "Unchanged"
        assert by_name["release-notes"]["diff"] == ""
        assert by_name["greet"]["status"] == "Created"
        assert by_name["greet"]["id"] is None
        assert by_name["greet"]["file"] == str(path)
        assert stigmer("diff", "-f", path, "-o", "name").out == "workflow/greet\n"

    def test_masks_secrets_and_tells_which_of_them_differ(self, stigmer: Any, write: Write) -> None:
        path = write("env.yaml", ENVIRONMENT)
        created = stigmer("diff", "-f", path)
        assert created.code == 1
        assert "hunter" not in created.out
        stigmer("apply", "-f", path)
        assert stigmer("diff", "-f", path).code == 0
        write("env.yaml", ENVIRONMENT.replace("TOKEN: {value: hunter2", "TOKEN: {value: hunter3"))
        changed = stigmer("diff", "-f", path)
        assert changed.code == 1
        assert "hunter" not in changed.out
        added = [line for line in changed.out.splitlines() if line.startswith("+ ")]
        assert [line.strip("+ ") for line in added] == ["value: '***REDACTED*** (changed)'"]
        assert "TOKEN:" in changed.out
        assert statuses(stigmer("apply", "-f", path, "--dry-run", "-o", "json")) == {"staging": "Updated"}

    def test_trouble_is_no_difference(self, stigmer: Any, write: Write) -> None:
        assert stigmer("diff", "-f", "nowhere.yaml").code == 2
        assert stigmer("diff", "-f", write("agent.yaml", AGENT), "--server", "127.0.0.1:9").code == 5


class TestApply:
    def test_what_was_done_is_told_when_the_rest_fails(self, stigmer: Any, write: Write) -> None:
        instance = "kind: WorkflowInstance\nmetadata: {name: x}\nspec: {workflow_id: wfl-01m82r6b428qhc55v1b3bm0877}\n"
        failed = stigmer("apply", "-f", write("all.yaml", f"{AGENT}---\n{instance}"), "-o", "json")
        assert failed.code == 3
        assert {item["name"]: item["status"] for item in json.loads(failed.out)["resources"]} == {
            "release-notes": "Created"
        }
        assert "1 of 2" in failed.err

    def test_prunes_what_a_set_declares_no_more(self, stigmer: Any, write: Write, tmp_path: Path) -> None:
        folder = tmp_path / "project"
        write("project/agent.yaml", AGENT)
        greet = write("project/greet.yaml", PLAIN)
        stigmer("apply", "-f", write("other.yaml", AGENT.replace("release-notes", "other")))
        assert stigmer("apply", "-f", folder, "--set", "docs").code == 0
        greet.unlink()
        tried = stigmer("apply", "-f", folder, "--set", "docs", "--prune", "--dry-run", "-o", "json")
        assert statuses(tried) == {"release-notes": "Unchanged", "greet": "Deleted"}
        assert stigmer("get", "wf", "greet").code == 0
        unasked = stigmer("apply", "-f", folder, "--set", "docs", "--prune")
        assert (unasked.code, unasked.out) == (2, "")
        assert "--yes" in unasked.err
        done = stigmer("apply", "-f", folder, "--set", "docs", "--prune", "--yes", "-o", "json")
        assert statuses(done) == {"release-notes": "Unchanged", "greet": "Deleted"}
        assert stigmer("get", "wf", "greet").code == 3
        assert sorted(stigmer("get", "agents", "-o", "name").out.split()) == ["agent/other", "agent/release-notes"]

    def test_prunes_by_the_labels_that_the_files_have(self, stigmer: Any, write: Write) -> None:
        one = write("one.yaml", AGENT)
        stigmer("apply", "-f", write("two.yaml", AGENT.replace("release-notes", "old")), "-f", one)
        done = stigmer("apply", "-f", one, "--prune", "-l", "app=docs", "--yes", "-o", "json")
        assert statuses(done) == {"release-notes": "Unchanged", "old": "Deleted"}

    @pytest.mark.parametrize(
        "options",
        [("--prune",), ("-l", "app=docs"), ("--prune", "-l", "app!=docs"), ("--prune", "-l", "app=shop"),
         ("--set", "no name"), ("--prune", "--set", "docs")],
    )  # fmt: skip
    def test_prunes_nothing_that_it_is_not_told_of(self, stigmer: Any, write: Write, options: tuple[str, ...]) -> None:
        refused = stigmer("apply", "-f", write("agent.yaml", AGENT), *options)
        assert (refused.code, refused.out) == (2, "")
        assert stigmer("get", "agents", "-o", "name").out.strip() == ""


class TestGet:
    def test_lists_by_labels_tags_and_text(self, stigmer: Any, write: Write) -> None:
        tagged = AGENT.replace("release-notes", "tagged").replace("labels: {app: docs}", "tags: [red, big]")
        stigmer("apply", "-f", write("a.yaml", AGENT), "-f", write("b.yaml", tagged))

        def names(*options: str) -> list[str]:
            return stigmer("get", "agents", "-o", "name", *options).out.split()

        assert names("-l", "app=docs") == ["agent/release-notes"]
        assert names("-l", "app in (docs, shop)") == ["agent/release-notes"]
        assert names("-l", "!app") == ["agent/tagged"]
        assert names("--tag", "red", "--tag", "big") == ["agent/tagged"]
        assert names("--tag", "red", "--tag", "small") == []
        assert names("--text", "notes") == ["agent/release-notes"]
        assert names("--limit", "1") == ["agent/tagged"]
        assert names("--sort", "name") == ["agent/release-notes", "agent/tagged"]
        assert names("--sort", "-name", "-n", "1") == ["agent/tagged"]
        assert stigmer("get", "agents", "-l", "app=(").code == 2

    def test_lists_what_belongs_to_a_resource(self, stigmer: Any, write: Write) -> None:
        stigmer("apply", "-f", write("both.yaml", f"{PLAIN}---\n{PLAIN.replace('greet', 'other')}"))
        found = stigmer("get", "workflowinstances", "--parent", "workflow/greet", "-o", "name")
        assert found.out == "workflow_instance/greet-default\n"
        assert stigmer("get", "workflowinstances", "--parent", "workflow/nobody").code == 3

    def test_wide_tells_more(self, stigmer: Any, write: Write) -> None:
        stigmer("apply", "-f", write("agent.yaml", AGENT))
        heading, row = stigmer("get", "agents", "-o", "wide").out.splitlines()
        assert heading.split() == ["NAME", "ID", "ORG", "VERSION", "CREATED", "UPDATED", "BY", "LABELS"]
        assert row.split()[0] == "release-notes"
        assert row.split()[-1] == "app=docs"
        assert stigmer("version", "-o", "wide").out.startswith("stigmer ")

    def test_shows_a_resource_as_it_was(self, stigmer: Any, write: Write) -> None:
        path = write("agent.yaml", AGENT)
        stigmer("apply", "-f", path)
        write("agent.yaml", AGENT.replace("short", "terse"))
        stigmer("apply", "-f", path)
        assert "short" in stigmer("get", "agent", "release-notes", "--version", "1", "-o", "json").out
        assert "terse" in stigmer("get", "agent/release-notes", "-o", "json").out
        assert stigmer("get", "agent/release-notes", "--version", "9").code == 3

    @pytest.mark.parametrize(
        "arguments",
        [
            ("agents", "--phase", "failed"),
            ("runs", "--phase", "sleeping"),
            ("agents", "--sort", "colour"),
            ("agents", "--version", "1"),
            ("agents", "--resume-token", "x"),
            ("agents", "-w", "--text", "x"),
            ("agent", "x", "--limit", "1"),
        ],
    )
    def test_refuses_what_does_not_go_together(self, stigmer: Any, arguments: tuple[str, ...]) -> None:
        refused = stigmer("get", *arguments)
        assert (refused.code, refused.out) == (2, "")

    def test_watches_nothing_where_nothing_can_change(self, stigmer: Any) -> None:
        assert stigmer("get", "agents", "-w").code == 5


class TestHistory:
    def test_lists_versions_and_goes_back_to_one(self, stigmer: Any, write: Write) -> None:
        path = write("agent.yaml", AGENT)
        stigmer("apply", "-f", path)
        write("agent.yaml", AGENT.replace("short", "terse"))
        stigmer("apply", "-f", path)
        versions = read(stigmer("history", "agent/release-notes", "-o", "json"))["items"]
        assert [(item["version"], item["event"], item["current"]) for item in versions] == [
            ("2", "updated", True),
            ("1", "created", False),
        ]
        tried = stigmer("rollback", "agent/release-notes", "1", "--dry-run")
        assert (tried.code, "nothing was changed" in tried.err) == (0, True)
        assert "-  instructions: Read the merged changes and write terse notes.\n" in tried.out
        assert "terse" in stigmer("get", "agent/release-notes", "-o", "json").out
        done = read(stigmer("rollback", "agent/release-notes", "1", "-m", "too terse", "-o", "json"))
        assert (done["from"], done["to"], done["version"], done["status"]) == ("2", "1", "3", "Updated")
        assert "short" in stigmer("get", "agent/release-notes", "-o", "json").out
        newest = read(stigmer("history", "agent", "release-notes", "-n", "1", "-o", "json"))["items"]
        assert [(item["event"], item["message"]) for item in newest] == [("rolled_back", "too terse")]
        assert stigmer("history", "agent/release-notes", "-o", "name").out.split() == ["3", "2", "1"]
        again = read(stigmer("rollback", "agent/release-notes", "1", "-o", "json"))
        assert (again["status"], again["version"]) == ("Unchanged", "3")

    def test_says_what_is_not_there(self, stigmer: Any, write: Write) -> None:
        assert stigmer("history", "agent/nobody").code == 3
        assert stigmer("history", "nobody").code == 2
        stigmer("apply", "-f", write("agent.yaml", AGENT))
        assert stigmer("rollback", "agent/release-notes", "7").code == 3


class TestDescribe:
    def test_tells_all_there_is(self, stigmer: Any, write: Write) -> None:
        stigmer("apply", "-f", write("greet.yaml", PLAIN))
        page = stigmer("describe", "workflow", "greet").out
        for part in ("Workflow greet", "organization  local", "Spec", "Status", "state: VALID"):
            assert part in page
        for part in ("Workflow Instances (1)", "greet-default", "Workflow Executions (0)", "Versions", "1 *"):
            assert part in page
        assert page.count("greeting: hello") == 1

    def test_has_a_form_for_programs(self, stigmer: Any, write: Write) -> None:
        stigmer("apply", "-f", write("greet.yaml", PLAIN))
        told = read(stigmer("describe", "workflow/greet", "-o", "json"))
        assert set(told) == {"resource", "children", "dependents", "versions"}
        assert told["resource"]["metadata"]["slug"] == "greet"
        assert [(children["kind"], children["total"]) for children in told["children"]] == [
            ("WorkflowInstance", 1),
            ("WorkflowExecution", 0),
        ]
        assert [item["slug"] for item in told["dependents"]] == ["greet-default"]
        assert [item["version"] for item in told["versions"]] == ["1"]
        identifier = told["resource"]["metadata"]["id"]
        assert stigmer("describe", identifier, "-o", "name").out == "workflow/greet\n"

    def test_takes_one_resource(self, stigmer: Any) -> None:
        assert stigmer("describe", "workflow", "a", "b").code == 2
        assert stigmer("describe", "workflow").code == 2
        assert stigmer("describe", "workflow", "nobody").code == 3


class TestDelete:
    def test_lists_what_would_go_and_keeps_it(self, stigmer: Any, write: Write) -> None:
        stigmer("apply", "-f", write("agent.yaml", AGENT))
        tried = read(stigmer("delete", "agent", "release-notes", "--dry-run", "-o", "json"))
        assert tried["dry_run"] is True
        assert [(item["kind"], item["slug"]) for item in tried["deleted"]] == [
            ("AgentInstance", "release-notes-default"),
            ("Agent", "release-notes"),
        ]
        assert stigmer("get", "agent", "release-notes").code == 0

    def test_deletes_what_files_declare(self, stigmer: Any, write: Write) -> None:
        path = write("both.yaml", f"{AGENT}---\n{PLAIN}")
        stigmer("apply", "-f", path)
        gone = stigmer("delete", "-f", path, "-o", "name").out.split()
        assert {"workflow/greet", "agent/release-notes"} <= set(gone)
        assert stigmer("delete", "-f", path).code == 3
        again = stigmer("delete", "-f", path, "--ignore-missing", "-o", "json")
        assert (again.code, read(again)["deleted"]) == (0, [])

    def test_what_is_needed_stays_unless_forced(self, stigmer: Any, write: Write) -> None:
        stigmer("apply", "-f", write("env.yaml", ENVIRONMENT), "-f", write("agent.yaml", AGENT))
        agent = read(stigmer("get", "agent/release-notes", "-o", "json"))["metadata"]["id"]
        text = f"kind: AgentInstance\nmetadata: {{name: mine}}\nspec: {{agent_id: {agent}}}\n"
        assert stigmer("apply", "-f", write("mine.yaml", text)).code == 0
        refused = stigmer("delete", "agent/release-notes")
        assert (refused.code, refused.out) == (4, "")
        assert "mine" in refused.err
        forced = stigmer("delete", "agent/release-notes", "--force", "-o", "name").out.split()
        assert forced[-1] == "agent/release-notes"
        assert "agent_instance/mine" in forced

    def test_is_told_one_way_what_to_delete(self, stigmer: Any, write: Write) -> None:
        assert stigmer("delete").code == 2
        assert stigmer("delete", "agent", "x", "-f", write("agent.yaml", AGENT)).code == 2


class TestEnv:
    def test_sets_shows_and_removes(self, stigmer: Any, tmp_path: Path) -> None:
        created = read(stigmer("env", "set", "staging", "REGION=eu", "EMPTY=", "-o", "json"))
        assert (created["status"], created["data"]["REGION"]["value"]) == ("Created", "eu")
        (tmp_path / "token").write_text("hunter2\n")
        updated = stigmer(
            "env", "set", "staging", "--secret", f"TOKEN=@{tmp_path / 'token'}", "--secret", "OTHER=-",
            "-o", "json", stdin="hunter3\n",
        )  # fmt: skip
        assert "hunter" not in updated.out + updated.err
        assert read(updated)["data"]["TOKEN"] == {"value": None, "is_secret": True, "description": ""}
        same = stigmer("env", "set", "staging", "--secret", "TOKEN", "-o", "json", stdin="hunter2")
        assert read(same)["status"] == "Unchanged"
        assert stigmer("env", "get", "staging", "REGION").out == "eu\n"
        assert stigmer("env", "get", "staging", "EMPTY").out == "\n"
        table = stigmer("env", "get", "staging").out
        assert "TOKEN" in table
        assert "hunter" not in table
        listed = read(stigmer("env", "list", "-o", "json"))["items"]
        assert [(item["name"], sorted(item["data"])) for item in listed] == [
            ("staging", ["EMPTY", "OTHER", "REGION", "TOKEN"])
        ]
        assert stigmer("env", "unset", "staging", "REGION", "TOKEN", "-o", "name").out == "environment/staging\n"
        assert sorted(read(stigmer("env", "get", "staging", "-o", "json"))["data"]) == ["EMPTY", "OTHER"]

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("set", "staging"), 2),
            (("set", "staging", "REGION"), 2),
            (("set", "staging", "--secret", "TOKEN=hunter2"), 2),
            (("set", "staging", "--secret", "TOKEN=@/nowhere"), 2),
            (("set", "staging", "--secret", "TOKEN"), 2),
            (("set", "staging", "--secret", "A=-", "--secret", "B=-"), 2),
            (("set", "staging", "SECRET=public"), 2),
            (("get", "staging", "SECRET"), 2),
            (("get", "staging", "NOBODY"), 3),
            (("get", "nobody"), 3),
            (("unset", "staging", "PLAIN", "NOBODY"), 3),
            (("unset", "nobody", "PLAIN"), 3),
        ],
    )
    def test_refuses_and_changes_nothing(self, stigmer: Any, arguments: tuple[str, ...], code: int) -> None:
        stigmer("env", "set", "staging", "PLAIN=1", "--secret", "SECRET", stdin="hunter1")
        refused = stigmer("env", *arguments)
        assert (refused.code, refused.out) == (code, "")
        assert "hunter" not in refused.err
        left = read(stigmer("env", "get", "staging", "-o", "json"))
        assert (sorted(left["data"]), left["version"]) == (["PLAIN", "SECRET"], "1")

    def test_a_secret_is_asked_for_and_not_echoed(self, tmp_path: Path) -> None:
        cli = Cli(home=tmp_path / "home")
        code, said = on_terminal(
            cli, "env", "set", "staging", "--secret", "TOKEN", asked=b"TOKEN: ", answer=b"hunter2\n"
        )
        assert (code, b"created" in said, b"hunter" in said) == (0, True, False)
        assert cli.run("env", "get", "staging", "-o", "json").json["data"]["TOKEN"]["is_secret"] is True


def test_a_person_is_asked_before_more_goes_than_was_named(tmp_path: Path) -> None:
    cli = Cli(home=tmp_path / "home")
    assert cli.run("apply", "-f", "-", "--set", "docs", stdin=AGENT).code == 0
    command = ("delete", "agent", "release-notes", "--force")
    kept, said = on_terminal(cli, *command, asked=b"[y/N] ", answer=b"n\n")
    assert (kept, b"agent_instance/release-notes-default" in said) == (1, True)
    assert cli.run("get", "agent", "release-notes").code == 0
    gone, _ = on_terminal(cli, *command, asked=b"[y/N] ", answer=b"y\n")
    assert gone == 0
    assert cli.run("get", "agent", "release-notes").code == 3


def on_terminal(cli: Cli, *arguments: str, asked: bytes, answer: bytes) -> tuple[int, bytes]:
    """Run a command on a terminal, answer what it asks, and return its exit code and all that was shown."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-m", "stigmer_cli", *arguments], cli.environment)  # noqa: S606
    said = until(terminal, asked)
    os.write(terminal, answer)
    # The error is how Linux says that nothing has the other end of the terminal open any more.
    with suppress(OSError):
        while shown := os.read(terminal, 1024):
            said += shown
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), said


def until(terminal: int, text: bytes) -> bytes:
    """Read what a terminal shows until the text is there."""
    said = b""
    deadline = time.monotonic() + PATIENCE
    while text not in said:
        assert time.monotonic() < deadline, said
        said += os.read(terminal, 1024)
    return said


class TestNew:
    def test_makes_a_project_that_is_valid(self, stigmer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        made = read(stigmer("new", "shop", "-o", "json"))
        assert made == {
            "name": "shop", "folder": "shop", "files": [".gitignore", "README.md", "agent.yaml", "workflow.yaml"],
        }  # fmt: skip
        assert stigmer("validate", "shop").code == 0
        assert stigmer("apply", "-f", "shop", "--set", "shop", "-o", "name").out.split() == [
            "agent/shop-clerk",
            "workflow/shop",
        ]
        assert stigmer("new", "shop").code == 4
        assert stigmer("new", "My Shop").code == 2


class TestDoctor:
    def test_finds_nothing_wrong_with_an_empty_home(self, stigmer: Any) -> None:
        told = read(stigmer("doctor", "-o", "json"))
        assert told["healthy"] is True
        found = {check["name"]: check["state"] for check in told["checks"]}
        assert {found[name] for name in ("python", "packages", "home", "temporal", "stack")} == {"ok"}
        assert stigmer("doctor").out.startswith("ok ")

    def test_tells_what_is_wrong_and_what_to_do(self, stigmer: Any, home: Any) -> None:
        stigmer("get", "agents")
        home.encryption_key.chmod(0o644)
        told = stigmer("doctor", "--server", "127.0.0.1:9", "-o", "json")
        assert told.code == 5
        wrong = {check["name"]: check for check in json.loads(told.out)["checks"] if check["state"] == "problem"}
        assert set(wrong) == {"encryption key", "server"}
        assert wrong["encryption key"]["hint"] == f"chmod 600 {home.encryption_key}"
        assert stigmer("doctor", "--server", "127.0.0.1:9", "-o", "name").out.split("\n")[0] == "encryption key"


class TestStatus:
    def test_says_that_nothing_runs(self, stigmer: Any) -> None:
        nothing = stigmer("status", "-o", "json")
        assert (nothing.code, json.loads(nothing.out)) == (3, {"running": False})

    def test_of_a_server_that_does_not_answer(self, stigmer: Any) -> None:
        away = stigmer("status", "--server", "127.0.0.1:9")
        assert (away.code, away.out) == (5, "")
