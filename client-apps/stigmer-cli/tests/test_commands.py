"""The commands that need no stack, over a server inside this process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML
from stigmer_cli import __version__
from stigmer_cli.app import app

Write = Callable[[str, str], Path]

AGENT = """\
kind: Agent
metadata: {name: release-notes}
spec:
  description: Drafts release notes
  instructions: Read the merged changes and write short notes.
"""
PLAIN = """\
document: {dsl: 1.0.0, namespace: docs, name: greet, version: 1.0.0}
do:
  - hello: {set: {greeting: hello}}
"""


def statuses(result: Any) -> dict[str, str]:
    return {item["name"]: item["status"] for item in json.loads(result.out)["resources"]}


def test_apply_tells_what_it_did(stigmer: Any, write: Write) -> None:
    path = write("both.yaml", f"{AGENT}---\n{PLAIN}")
    first = stigmer("apply", "-f", path, "-o", "json")
    assert (first.code, statuses(first)) == (0, {"release-notes": "Created", "greet": "Created"})
    again = stigmer("apply", "-f", path, "-o", "json")
    assert statuses(again) == {"release-notes": "Unchanged", "greet": "Unchanged"}
    write("both.yaml", f"{AGENT.replace('short', 'terse')}---\n{PLAIN}")
    changed = stigmer("apply", "-f", path, "-o", "json")
    assert statuses(changed) == {"release-notes": "Updated", "greet": "Unchanged"}


def test_a_dry_run_tells_the_same_and_changes_nothing(stigmer: Any, write: Write) -> None:
    path = write("agent.yaml", AGENT)
    assert statuses(stigmer("apply", "-f", path, "--dry-run", "-o", "json")) == {"release-notes": "Created"}
    assert json.loads(stigmer("get", "agents", "-o", "json").out) == {"items": []}
    stigmer("apply", "-f", path)
    assert statuses(stigmer("apply", "-f", path, "--dry-run", "-o", "json")) == {"release-notes": "Unchanged"}
    write("agent.yaml", AGENT.replace("short", "terse"))
    assert statuses(stigmer("apply", "-f", path, "--dry-run", "-o", "json")) == {"release-notes": "Updated"}
    assert "short" in stigmer("get", "agent", "release-notes", "-o", "yaml").out


def test_a_folder_is_applied_whole_or_not_at_all(stigmer: Any, write: Write, tmp_path: Path) -> None:
    write("resources/agents/a.yaml", AGENT)
    write("resources/b.yml", PLAIN)
    write("resources/notes.txt", "not a manifest")
    write("resources/.hidden/c.yaml", "nonsense: true")
    broken = write("resources/z.yaml", "kind: Agent\nmetadata: {name: z}\nspec: {instructions: 7}\n")
    refused = stigmer("apply", "-f", tmp_path / "resources")
    assert refused.code == 2
    assert f"{broken}:3:8: /spec/instructions" in refused.err
    assert json.loads(stigmer("get", "agents", "-o", "json").out) == {"items": []}
    broken.unlink()
    assert stigmer("apply", "-f", tmp_path / "resources", "-o", "name").out.split() == [
        "agent/release-notes",
        "workflow/greet",
    ]


def test_what_is_printed_can_be_applied_again(stigmer: Any, write: Write) -> None:
    stigmer("apply", "-f", write("greet.yaml", f"# hello\n{PLAIN}"))
    printed = stigmer("get", "wf", "greet", "-o", "yaml").out
    assert f"definition: |\n    # hello\n    {PLAIN.splitlines()[0]}" in printed
    again = stigmer("apply", "-f", write("again.yaml", printed), "-o", "json")
    assert statuses(again) == {"greet": "Unchanged"}, again.err


def test_get_prints_a_table_names_json_and_yaml(stigmer: Any, write: Write) -> None:
    stigmer("apply", "-f", write("agent.yaml", AGENT))
    table = stigmer("get", "agents").out.splitlines()
    assert table[0].split() == ["NAME", "ID", "ORG", "UPDATED"]
    assert table[1].split()[0] == "release-notes"
    assert stigmer("get", "agents", "-o", "name").out == "agent/release-notes\n"
    resource = json.loads(stigmer("get", "agent/release-notes", "-o", "json").out)
    assert stigmer("get", resource["metadata"]["id"], "-o", "name").out == "agent/release-notes\n"
    yaml: Any = YAML(typ="safe")
    assert yaml.load(stigmer("-o", "yaml", "get", "agent", "release-notes").out) == resource


def test_an_empty_list_says_so_and_is_no_error(stigmer: Any) -> None:
    listed = stigmer("get", "environments")
    assert listed.code == 0
    assert "no environment yet" in listed.err


def test_delete_takes_names_kinds_and_ids(stigmer: Any, write: Write) -> None:
    stigmer("apply", "-f", write("both.yaml", f"{AGENT}---\n{PLAIN}"))
    deleted = stigmer("delete", "agent", "release-notes").out.splitlines()
    assert deleted == ["agent_instance/release-notes-default deleted", "agent/release-notes deleted"]
    identifier = json.loads(stigmer("get", "wf", "greet", "-o", "json").out)["metadata"]["id"]
    assert stigmer("delete", identifier, "-o", "name").out.splitlines()[-1] == "workflow/greet"
    gone = stigmer("delete", "agent/release-notes")
    assert gone.code == 3
    assert "stigmer get agent" in gone.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("get", "agnets"), 2),
        (("get", "agent", "nobody"), 3),
        (("delete", "agent"), 2),
        (("apply", "-f", "nowhere.yaml"), 2),
        (("validate", "nowhere.yaml"), 2),
        (("watch", "nonsense"), 2),
        (("watch", "wex-01m82r6b428qhc55v1b3bm0877"), 3),
        (("run", "nowhere.yaml"), 2),
        (("run", "agent/x", "--server", "127.0.0.1:9"), 5),
        (("logs", "nobody"), 3),
        (("frobnicate",), 2),
        (("get",), 2),
        (("get", "agents", "-o", "xml"), 2),
    ],
)
def test_errors_have_their_exit_code_and_go_to_standard_error(
    stigmer: Any, arguments: tuple[str, ...], code: int
) -> None:
    result = stigmer(*arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err
    assert "Traceback" not in result.err


STORED = """\
kind: Workflow
metadata: {name: stored}
spec:
  document: {dsl: 1.0.0, namespace: docs, name: stored, version: 1.0.0}
  tasks: [{name: pause, kind: wait, task_config: {seconds: 1}}]
"""


def test_graph_draws_plain_and_stored_workflows(stigmer: Any, write: Write) -> None:
    plain = write("plain.yaml", PLAIN)
    drawn = stigmer("graph", plain)
    assert (drawn.code, drawn.out.splitlines()[0]) == (0, "flowchart TD")
    assert stigmer("graph", plain, "--format", "dot").out.startswith('digraph "greet"')
    told = json.loads(stigmer("graph", plain, "--format", "json").out)
    assert told["nodes"][2] == {
        "id": "/do/0/hello", "kind": "set", "name": "hello", "pointer": "/do/0/hello", "line": 3, "column": 5,
    }  # fmt: skip
    stored = json.loads(stigmer("graph", write("stored.yaml", STORED), "--format", "json").out)
    assert stored["nodes"][2]["name"] == "pause"
    assert (stored["nodes"][2]["line"], stored["nodes"][2]["column"]) == (5, 11)
    inner = "".join(f"    {line}\n" for line in PLAIN.splitlines())
    held = f"kind: Workflow\nmetadata: {{name: x}}\nspec:\n  definition: |\n{inner}"
    inside = json.loads(stigmer("graph", write("inside.yaml", held), "--format", "json").out)
    assert inside["nodes"][2] == {**told["nodes"][2], "line": 7, "column": 9}


def test_graph_of_what_is_no_workflow_says_why(stigmer: Any, write: Write) -> None:
    broken = stigmer("graph", write("broken.yaml", PLAIN.replace("set:", "sett:")))
    assert (broken.code, broken.out) == (2, "")
    assert "says no kind of task" in broken.err
    assert "holds no workflow" in stigmer("graph", write("agent.yaml", AGENT)).err


def test_fmt_formats_files_and_checks_them(stigmer: Any, write: Write) -> None:
    path = write("plain.yaml", "do: [ { a: { then: end, set: { x: 1 } } } ]\n")
    checked = stigmer("fmt", "--check", path)
    assert (checked.code, checked.out) == (1, f"{path}: would be formatted\n")
    assert stigmer("fmt", path).out == f"{path}: formatted\n"
    assert path.read_text() == "do: [{a: {set: {x: 1}, then: end}}]\n"
    assert stigmer("fmt", "--check", path).code == 0
    assert stigmer("fmt", write("broken.yaml", "a: [")).code == 2


@pytest.mark.requirement("command")
def test_validate_tells_every_problem_and_needs_no_home(stigmer: Any, write: Write) -> None:
    good, bad = write("good.yaml", PLAIN), write("bad.yaml", AGENT.replace("instructions", "instruction"))
    assert stigmer("validate", good).out == f"{good}:1: Workflow greet is valid\n"
    result = stigmer("validate", good, bad)
    assert (result.code, result.out) == (2, "")
    assert f"{bad}:5:3: /spec/instruction" in result.err
    listed = json.loads(stigmer("validate", bad, "-o", "json").out)
    assert listed["valid"] is False
    assert (listed["problems"][0]["line"], listed["problems"][0]["column"]) == (5, 3)


@pytest.mark.requirement("problems.doubts")
def test_what_is_hardly_meant_is_a_warning_at_its_place(stigmer: Any, write: Write) -> None:
    plain = "document: {dsl: 1.0.3, namespace: test, name: odd, version: 1.0.0}\ndo:\n  - a: {set: {x: 'Hi ${ .b }'}}\n"
    inside = "kind: Workflow\nmetadata: {name: odd}\nspec:\n  definition: |\n    " + plain.replace("\n", "\n    ")
    for text, line, pointer in ((plain, 3, "/do/0/a/set/x"), (inside, 7, "/spec/definition/do/0/a/set/x")):
        path = write("odd.yaml", text)
        result = stigmer("validate", path)
        assert (result.code, result.out.endswith("is valid\n")) == (0, True)
        assert f"warning: {path}:{line}:" in result.err
        assert f"{pointer}: `${{ }}` inside a longer text is left as it is" in result.err
        (warning,) = json.loads(stigmer("validate", path, "-o", "json").out)["warnings"]
        assert (warning["line"], warning["pointer"]) == (line, pointer)
        assert "warning: " in stigmer("apply", "-f", path).err


def test_secrets_are_not_printed(stigmer: Any, write: Write) -> None:
    text = "kind: Environment\nmetadata: {name: staging}\nspec: {data: {TOKEN: {value: VALUE, is_secret: true}}}\n"
    path = write("environment.yaml", text.replace("VALUE", "hunter2"))
    applied = stigmer("apply", "-f", path, "-o", "json")
    assert statuses(applied) == {"staging": "Created"}
    shown = stigmer("get", "env", "staging", "-o", "json")
    assert shown.code == 0
    assert "hunter2" not in shown.out
    write("environment.yaml", text.replace("VALUE", "hunter3"))
    assert statuses(stigmer("apply", "-f", path, "-o", "json")) == {"staging": "Updated"}


def test_the_version_is_that_of_the_distribution(stigmer: Any) -> None:
    assert stigmer("version").out == f"stigmer {__version__}\n"
    assert stigmer("version", "-o", "json").out == f'{{\n  "version": "{__version__}"\n}}\n'
    assert metadata.version("stigmer-cli") == __version__


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["version"], ["status"], ["get", "agents"]])
def test_nothing_heavy_is_imported_for_a_light_command(arguments: list[str], tmp_path: Path) -> None:
    heavy = ["temporalio", "langchain", "langchain_core", "rich", "workflow_runner", "agent_runner"]
    if arguments[0] != "get":
        heavy += ["stigmer_server", "stigmer_grpc", "grpc", "stigmer_dsl", "google.protobuf", "pydantic"]
    program = (
        "import sys; from stigmer_cli.__main__ import execute\n"
        f"execute({arguments!r})\n"
        f"loaded = [name for name in {heavy!r} if name in sys.modules]\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    environment = {"STIGMER_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def commands() -> set[str]:
    """Every command as it is called: `get`, `env set`."""
    found: set[str] = set()
    commands: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    for name, command in commands.items():
        family: list[str] = list(getattr(command, "commands", ()))
        found |= {f"{name} {inner}" for inner in family} or {name}
    return found


def test_every_command_that_is_told_of_exists_and_the_other_way_round() -> None:
    known = commands()
    families = {name.split()[0] for name in known if " " in name}
    source = Path(__file__).parent.parent / "src" / "stigmer_cli"
    readme = (source.parent.parent / "README.md").read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in source.rglob("*.py")]
    for text in [*texts, readme]:
        for first, second in re.findall(r"[`$] ?stigmer ([a-z]+)(?: ([a-z]+))?", text):
            assert (f"{first} {second}" if first in families and second else first) in known | families, first
    assert {name for name in known if not re.search(rf"`stigmer {name}\b", readme)} == set()


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_has_help_and_fails_on_options_it_does_not_know(stigmer: Any, command: str) -> None:
    told = stigmer(*command.split(), "--help")
    assert (told.code, told.err) == (0, "")
    assert f"Usage: stigmer {command}" in told.out
    refused = stigmer(*command.split(), "--frobnicate")
    assert (refused.code, refused.out) == (2, "")
