import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from stigmer_dsl import Source
from stigmer_dsl.__main__ import INVALID, main
from stigmer_dsl.schema import json_schema

GOOD = """document: { dsl: '1.0.3', namespace: test, name: example, version: '0.1.0' }
do:
  - a: { set: { x: 1 } }
  - b: { call: http, with: { method: get, endpoint: https://x.y } }
  - c: { switch: [ { d: { then: end } } ] }
"""


@pytest.mark.requirement("command")
def test_a_valid_file_is_said_to_be_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(f"{GOOD}---\n{GOOD}")
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: 2 workflows, valid\n", "")


@pytest.mark.requirement("command")
def test_every_problem_of_every_file_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"good": GOOD, "wrong": GOOD.replace("then: end", "then: nowhere"), "broken": "a: [", "gone": None}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    assert main(["validate", *(str(tmp_path / name) for name in files)]) == INVALID
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'good'}: 1 workflow, valid\n"
    wrong, broken, gone = err.splitlines()
    assert wrong.startswith(f"{tmp_path / 'wrong'}:5:33: /do/2/c/switch/0/d/then: no task named 'nowhere'")
    assert wrong.endswith("[dsl.then-target]")
    assert broken.startswith(f"{tmp_path / 'broken'}:1:5: /a: the text is no YAML")
    assert gone.startswith(f"{tmp_path / 'gone'}: /: the file cannot be read: ")
    assert gone.endswith("[file.read]")


@pytest.mark.requirement("command")
def test_programs_are_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, wrong, gone = tmp_path / "good", tmp_path / "wrong", tmp_path / "gone"
    good.write_text(GOOD)
    wrong.write_text(GOOD.replace("then: end", "then: nowhere"))
    assert main(["validate", "-o", "json", str(good), str(wrong), str(gone)]) == INVALID
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["valid"], err) == (False, "")
    assert told["workflows"] == [
        {"file": str(good), "line": 1, "namespace": "test", "name": "example", "version": "0.1.0"}
    ]
    first, second = told["problems"]
    assert {key: first[key] for key in ("file", "line", "column", "pointer", "code")} == {
        "file": str(wrong), "line": 5, "column": 33, "pointer": "/do/2/c/switch/0/d/then", "code": "dsl.then-target",
    }  # fmt: skip
    assert (second["file"], second["line"], second["code"]) == (str(gone), None, "file.read")


@pytest.mark.requirement("problems.doubts")
def test_what_is_hardly_meant_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(GOOD.replace("x: 1", "x: 'Hello ${ .name }'"))
    assert main(["validate", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}: 1 workflow, valid\n"
    assert err.startswith(f"warning: {path}:3:20: /do/0/a/set/x: `${{ }}` inside a longer text")
    assert main(["validate", "-o", "json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["code"], each["line"], each["column"]) for each in told["warnings"]] == [("doubt.text", 3, 20)]


def test_secrets_may_be_declared_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(GOOD.replace("x: 1", "x: '${.secrets.TOKEN}'"))
    assert main(["validate", str(path)]) == INVALID
    assert main(["validate", "--secret", "TOKEN", str(path)]) == 0


@pytest.mark.requirement("command")
def test_the_module_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "stigmer_dsl", "validate", "-"]
    good = subprocess.run(command, input=GOOD, capture_output=True, text=True, check=False, timeout=60)
    assert (good.returncode, good.stdout, good.stderr) == (0, "<stdin>: 1 workflow, valid\n", "")
    wrong = subprocess.run(command, input="a: b\n", capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("<stdin>:1:1: /: needs `document`")


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.requirement("schema.export")
def test_the_schema_accepts_a_valid_document(validator: Any) -> None:
    validator.validate(Source.load(GOOD, name="t").documents[0].value)


@pytest.mark.requirement("schema.export")
@pytest.mark.parametrize(
    "change",
    [
        ("set: { x: 1 }", "sett: { x: 1 }"),
        ("method: get, ", ""),
        ("name: example", "nam: example"),
        ("then: end", "then: 5"),
    ],
)
def test_the_schema_refuses_a_wrong_structure(validator: Any, change: tuple[str, str]) -> None:
    value = Source.load(GOOD.replace(*change), name="t").documents[0].value
    assert not validator.is_valid(value)
