"""What `stigmer-server` was told to do: to serve, or one of its operations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

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
    options = _parser().parse_args(arguments)
    chosen = next((operation for operation in OPERATIONS if operation.name == getattr(options, _NAME)), None)
    settings = resolve(vars(options), serving=chosen is None)
    return Command(settings=settings, operation=chosen, options=options)


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
