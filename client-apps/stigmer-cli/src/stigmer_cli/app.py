"""The command line as a whole: which commands there are, and the options before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from stigmer_cli import __version__, console
from stigmer_cli.commands import env, events, files, key, org, schedule, session, skill
from stigmer_cli.commands.apply import apply
from stigmer_cli.commands.approve import approve
from stigmer_cli.commands.cancel import cancel
from stigmer_cli.commands.chat import chat
from stigmer_cli.commands.delete import delete
from stigmer_cli.commands.describe import describe
from stigmer_cli.commands.diff import diff
from stigmer_cli.commands.doctor import doctor
from stigmer_cli.commands.down import down
from stigmer_cli.commands.fmt import fmt
from stigmer_cli.commands.get import get
from stigmer_cli.commands.graph import graph
from stigmer_cli.commands.history import history
from stigmer_cli.commands.logs import logs
from stigmer_cli.commands.new import new
from stigmer_cli.commands.pause import pause
from stigmer_cli.commands.recover import recover
from stigmer_cli.commands.reject import reject
from stigmer_cli.commands.resume import resume
from stigmer_cli.commands.rollback import rollback
from stigmer_cli.commands.run import run
from stigmer_cli.commands.send import send
from stigmer_cli.commands.signal import signal
from stigmer_cli.commands.status import status
from stigmer_cli.commands.terminate import terminate
from stigmer_cli.commands.up import up
from stigmer_cli.commands.validate import validate
from stigmer_cli.commands.version import version
from stigmer_cli.commands.watch import watch
from stigmer_cli.grouping import GroupedCommands
from stigmer_cli.options import Ca, Debug, Globals, Output, Server, Tls, Token, TokenFile

app = typer.Typer(
    name="stigmer",
    cls=GroupedCommands,
    no_args_is_help=True,
    # Rich would be imported for help alone, and takes longer than the rest of it.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        console.result(f"stigmer {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
    token: Token = "",
    token_file: TokenFile = "",
    tls: Tls = False,
    ca: Ca = "",
    show_version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run agents and workflows that are declared as resources.

    Start with `stigmer run FILE`: it brings everything a workflow needs.
    """
    context.obj = Globals(output=output, debug=debug, server=server, token=token, token_file=token_file, tls=tls, ca=ca)


_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Runs": (run, chat, watch, cancel, terminate, pause, resume, recover, signal, send, approve, reject),
    "Resources": (new, validate, fmt, graph, diff, apply, get, describe, delete, history, rollback),
    "Local stack": (up, down, status, logs, doctor),
    "This command": (version,),
}
_FAMILIES = (
    ("Runs", "session", session.app),
    ("Resources", "env", env.app),
    ("Resources", "skill", skill.app),
    ("Resources", "files", files.app),
    ("Events", "events", events.app),
    ("Events", "schedule", schedule.app),
    ("Access", "org", org.app),
    ("Access", "key", key.app),
)

for _group, _commands in _COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_group)(_command)
for _group, _name, _family in _FAMILIES:
    app.add_typer(_family, name=_name, rich_help_panel=_group)
app.command(name="retry", hidden=True)(recover)
