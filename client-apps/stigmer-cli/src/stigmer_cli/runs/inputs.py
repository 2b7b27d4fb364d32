"""What a run is given: its input, and the variables and secrets of its environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stigmer_cli.errors import InvalidInputError

if TYPE_CHECKING:
    from stigmer_dsl import Workflow

NO_INPUT = object()
"""That no input was given, which is not the input `null`."""


def read_json(argument: str | None, *, option: str) -> Any:
    """Return the value of an option: JSON, `@FILE` with JSON or YAML, or `-` for JSON on standard input.

    Raises:
        InvalidInputError: It cannot be read, with the place of the mistake.
    """
    if argument is None:
        return NO_INPUT
    if argument.startswith("@"):
        return _from_file(argument[1:], option)
    if argument == "-":
        return _from_json(sys.stdin.read(), "<stdin>", option)
    return _from_json(argument, option, option)


def check_input(definition: Workflow, value: Any) -> None:
    """Hold the input against the schema that the workflow declares for it, if any.

    Raises:
        InvalidInputError: It does not fit; every violation.
    """
    from stigmer_dsl import WorkflowError
    from stigmer_dsl.schemas import broken_rules

    schema = definition.input.schema_.document if definition.input and definition.input.schema_ else None
    if schema is None:
        return
    try:
        broken = sorted(broken_rules(schema, value, "the input"), key=lambda each: list(map(str, each.path)))
    except WorkflowError:
        return  # what cannot be checked here is the server's to say
    if broken:
        problems = [f"--input: {each.place}: {each.message}" for each in broken]
        msg = f"the input does not fit the schema of workflow {definition.document.name!r}"
        raise InvalidInputError(
            msg, problems=problems, hint="give the input with --input JSON, --input @FILE or --input -"
        )


def read_environment(variables: Sequence[str], secrets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the runtime environment of `--env NAME=VALUE` and `--secret NAME[=VALUE]`.

    A secret without a value is taken from the variable of its name, or asked for without echo.

    Raises:
        InvalidInputError: One has no name, or no value can be had.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not name or not equals:
            msg = f"--env {text}: expected NAME=VALUE"
            raise InvalidInputError(msg)
        found[name] = {"value": _filled(name, value)}
    for text in secrets:
        name, equals, value = text.partition("=")
        if not name:
            msg = f"--secret {text}: expected NAME or NAME=VALUE"
            raise InvalidInputError(msg)
        found[name] = {"value": _filled(name, value if equals else _ask(name, os.environ)), "is_secret": True}
    return found


def _filled(name: str, value: str) -> str:
    if not value:
        msg = f"{name} has an empty value"
        raise InvalidInputError(msg, hint="leave it out, or give it a value")
    return value


def _ask(name: str, variables: Mapping[str, str]) -> str:
    if value := variables.get(name):
        return value
    if not sys.stdin.isatty():
        msg = f"--secret {name}: there is no variable {name} to take it from, and nobody to ask"
        raise InvalidInputError(msg, hint=f"set the environment variable {name}")
    return getpass(f"{name}: ")


def _from_file(name: str, option: str) -> Any:
    from stigmer_dsl import Source, SourceError

    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{option} @{name}: {error.strerror if isinstance(error, OSError) else 'this is not UTF-8 text'}"
        raise InvalidInputError(msg) from None
    if name.endswith(".json"):
        return _from_json(text, name, option)
    try:
        return Source.load(text, name=name).documents[0].value
    except SourceError as error:
        msg = f"{option} @{name} cannot be read"
        raise InvalidInputError(msg, problems=error.problems) from None


def _from_json(text: str, name: str, option: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        place = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        msg = f"{name}{place}: this is not JSON: {said}"
        raise InvalidInputError(
            msg, hint=f"""texts need double quotes, such as {option} '{{"name": "Ada"}}'"""
        ) from None


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is no JSON number"
    raise ValueError(msg)
