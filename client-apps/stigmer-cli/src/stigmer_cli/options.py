"""Options that every command knows, and what they come to. Light: nothing here imports more than typer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from stigmer_cli import runtime
from stigmer_cli.completion import complete_execution
from stigmer_cli.console import OutputFormat
from stigmer_cli.environment import Environment

Output = Annotated[
    OutputFormat | None,
    typer.Option("-o", "--output", help="How to print results.", show_choices=True, metavar="FORMAT"),
]
Debug = Annotated[bool, typer.Option("-v", "--debug", help="Tell more, and where errors come from.")]
Server = Annotated[
    str,
    typer.Option(
        "--server", metavar="ADDRESS", help="Talk to this server, host:port or https://… [env: STIGMER_SERVER_ADDRESS]."
    ),
]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Sign in with this; better kept in a file or a variable [env: STIGMER_TOKEN].",
    ),
]
TokenFile = Annotated[
    str, typer.Option("--token-file", metavar="FILE", help="Sign in with what it holds [env: STIGMER_TOKEN_FILE].")
]
Tls = Annotated[bool, typer.Option("--tls", help="The server speaks TLS, as https:// says too [env: STIGMER_TLS].")]
Ca = Annotated[
    str,
    typer.Option("--ca", metavar="FILE", help="Trust this authority's certificates; implies TLS [env: STIGMER_CA]."),
]
Org = Annotated[
    str, typer.Option("--org", metavar="ORG", help="Organization of resources that name none [default: local].")
]
Selector = Annotated[
    str,
    typer.Option(
        "--selector", "-l", metavar="LABELS", help="Only what has these labels, such as `app=shop,tier in (a, b),!old`."
    ),
]
Files = Annotated[
    list[str], typer.Option("-f", "--file", metavar="FILE", help="A file, a folder, or - for standard input.")
]
Set = Annotated[
    str,
    typer.Option("--set", metavar="NAME", help="Label what the files declare as one set, such as a project's name."),
]
Put = Annotated[
    list[str] | None,
    typer.Option(
        "--file", metavar="FILE[=AS]", help="Of an agent: a file or folder for its workspace, and where it goes there."
    ),
]
Runs = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="Ids of runs, such as wex-… or aex-….", autocompletion=complete_execution),
]
Run = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a run, such as wex-… or aex-….", autocompletion=complete_execution)
]
Waiting = Annotated[
    str,
    typer.Argument(
        metavar="[TASK|CALL]", help="Name of the task, or id of the tool call [default: the one that waits]."
    ),
]
Data = Annotated[
    str | None, typer.Option("--data", metavar="JSON|@FILE|-", help="What goes with it: JSON, or a file of it.")
]
Comment = Annotated[str, typer.Option("--comment", "-m", metavar="TEXT", help="What you say about it.")]
Script = Annotated[
    Path | None,
    typer.Option("--script", metavar="FILE", help="What a scripted model says in place of a model, without any AI."),
]
EnvFrom = Annotated[
    list[str] | None,
    typer.Option("--env-from", metavar="ENV", help="An environment whose variables and secrets it has."),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the run.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Return when it has come to that.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


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

    output: OutputFormat | None = None
    debug: bool = False
    server: str = ""
    token: str = ""
    token_file: str = ""
    tls: bool = False
    ca: str = ""

    def over(self, environment: Environment) -> Environment:
        """Return what the variables say, as far as no option says otherwise."""
        given = self.token or self.token_file
        return replace(
            environment,
            token=self.token or ("" if given else environment.token),
            token_file=self.token_file or ("" if given else environment.token_file),
            tls=self.tls or environment.tls,
            ca=self.ca or environment.ca,
        )


def session(
    context: typer.Context, *, output: OutputFormat | None, debug: bool, server: str = "", wide: bool = False
) -> Session:
    """Join the options given after the command's name with those given before it; the former win.

    Args:
        context: The command's.
        output: How it was told to print.
        debug: Whether it was told to tell more.
        server: Which server it was told to use.
        wide: Whether it has a wide table; for a command that has none, wide is a table.
    """
    given = context.find_root().obj
    before = given if isinstance(given, Globals) else Globals()
    wanted = output or before.output or OutputFormat.TABLE
    made = Session(
        environment=before.over(Environment.read()),
        output=OutputFormat.TABLE if wanted is OutputFormat.WIDE and not wide else wanted,
        debug=debug or before.debug,
        server=server or before.server,
    )
    runtime.begin(debug=made.debug)
    return made
