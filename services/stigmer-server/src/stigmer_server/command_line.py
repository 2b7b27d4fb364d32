"""What `stigmer-server` was told to do: to serve, or one of its operations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from stigmer_server.operations import OPERATIONS, Operation
from stigmer_server.settings import Settings
from stigmer_server.settings_flags import add_flags, resolve

_NAME = "operation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line, understood."""

    settings: Settings
    operation: Operation | None
    """What to do instead of serving."""
    options: argparse.Namespace
    """The operation's own arguments."""


def parse(arguments: Sequence[str] | None = None) -> Command:
    """Return what the command line asks for.

    Raises:
        SettingsError: Settings are wrong; it names every problem.
        SystemExit: The command line asked for help, or is not a command line.
    """
    parser = _parser()
    _check_options(parser, sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(arguments)
    chosen = next((operation for operation in OPERATIONS if operation.name == getattr(options, _NAME)), None)
    settings = resolve(vars(options), serving=chosen is None)
    return Command(settings=settings, operation=chosen, options=options)


def _check_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Name an option that there is not; argparse would take what follows it for an operation that there is not."""
    known = {option for each in (parser, *_operations(parser)) for option in each._option_string_actions}  # noqa: SLF001 - argparse tells it nowhere else
    for word in arguments:
        name = word.partition("=")[0]
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            near = get_close_matches(name, known, n=1)
            parser.error(f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else ""))


def _operations(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001 - argparse tells it nowhere else
        if isinstance(action.choices, Mapping):
            yield from cast("Mapping[str, argparse.ArgumentParser]", action.choices).values()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stigmer-server",
        usage="stigmer-server [SETTING ...] [OPERATION ...]",
        description="Serve the Stigmer API, or look after the files of a server.",
        epilog="Without an operation, it serves. `stigmer-server OPERATION --help` tells the options of one.",
    )
    add_flags(parser)
    operations = parser.add_subparsers(prog=parser.prog, title="operations", dest=_NAME, metavar="OPERATION")
    for operation in OPERATIONS:
        usage = f"{parser.prog} {operation.name} [OPTION ...] {operation.arguments}".rstrip()
        made = operations.add_parser(
            operation.name, usage=usage, help=operation.summary, description=operation.description
        )
        operation.configure(made)
        made.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the result")
        add_flags(made)
    return parser
