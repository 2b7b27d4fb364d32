"""Options that every command knows, and what they come to. Light: nothing here imports more than typer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from stigmer_cli import runtime
from stigmer_cli.console import OutputFormat
from stigmer_cli.environment import Environment

Output = Annotated[
    OutputFormat | None,
    typer.Option("-o", "--output", help="How to print results.", show_choices=True, metavar="FORMAT"),
]
Debug = Annotated[bool, typer.Option("-v", "--debug", help="Tell more, and where errors come from.")]
Server = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", help="Talk to this server [env: STIGMER_SERVER_ADDRESS].")
]
Org = Annotated[
    str, typer.Option("--org", metavar="ORG", help="Organization of resources that name none [default: local].")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one command works with."""

    environment: Environment
    output: OutputFormat
    debug: bool
    server: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Globals:
    """Options given before the command's name."""

    output: OutputFormat | None
    debug: bool
    server: str


def session(context: typer.Context, *, output: OutputFormat | None, debug: bool, server: str = "") -> Session:
    """Join the options given after the command's name with those given before it; the former win."""
    given = context.find_root().obj
    before = given if isinstance(given, Globals) else Globals(output=None, debug=False, server="")
    made = Session(
        environment=Environment.read(),
        output=output or before.output or OutputFormat.TABLE,
        debug=debug or before.debug,
        server=server or before.server,
    )
    runtime.begin(debug=made.debug)
    return made
