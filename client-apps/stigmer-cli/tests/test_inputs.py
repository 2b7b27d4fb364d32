from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.messages import to_value, value_to_plain
from stigmer_cli.runs.inputs import NO_INPUT, read_environment, read_json


def test_no_input_is_not_null() -> None:
    assert read_json(None, option="--input") is NO_INPUT
    assert read_json("null", option="--input") is None


@pytest.mark.parametrize(("name", "text"), [("a.json", '{"n": 1}'), ("a.yaml", "n: 1\n")])
def test_a_file_holds_json_or_yaml(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_json(f"@{tmp_path / name}", option="--input") == {"n": 1}


def test_standard_input_holds_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("[1, 2]"))
    assert read_json("-", option="--input") == [1, 2]


@pytest.mark.parametrize("text", ["{", "{'a': 1}", "NaN", "hello", '{"a": Infinity}'])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not JSON"):
        read_json(text, option="--input")


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "a", [], {}, {"a": [1, {"b": None}]}, 2**53, -(2**60)])
def test_values_survive_the_way_to_the_server_and_back(value: Any) -> None:
    back = value_to_plain(to_value(value))
    assert back == value
    assert repr(back) == repr(value)


@pytest.mark.parametrize("value", [2**53 + 1, {"a": [-(2**63) + 1]}])
def test_a_number_that_would_be_rounded_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="exactly"):
        to_value(value)


def test_variables_and_secrets_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "from the environment")
    assert read_environment(["A=1=2"], ["KEY=k", "TOKEN"]) == {
        "A": {"value": "1=2"},
        "KEY": {"value": "k", "is_secret": True},
        "TOKEN": {"value": "from the environment", "is_secret": True},
    }


@pytest.mark.parametrize(
    ("variables", "secrets"), [(["A"], []), (["=1"], []), (["A="], []), ([], ["=x"]), ([], ["NOPE"])]
)
def test_a_variable_needs_a_name_and_a_value(
    variables: list[str], secrets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOPE", raising=False)
    with pytest.raises(InvalidInputError):
        read_environment(variables, secrets)
