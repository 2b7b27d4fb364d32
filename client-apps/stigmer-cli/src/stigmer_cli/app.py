"""The command line as a whole: which commands there are, and the options before them."""

from __future__ import annotations

import typer

from stigmer_cli.commands.apply import apply
from stigmer_cli.commands.delete import delete
from stigmer_cli.commands.down import down
from stigmer_cli.commands.get import get
from stigmer_cli.commands.logs import logs
from stigmer_cli.commands.run import run
from stigmer_cli.commands.status import status
from stigmer_cli.commands.up import up
from stigmer_cli.commands.validate import validate
from stigmer_cli.commands.version import version
from stigmer_cli.commands.watch import watch
from stigmer_cli.options import Debug, Globals, Output, Server

app = typer.Typer(
    name="stigmer",
    no_args_is_help=True,
    # Rich would be imported for help alone, and takes longer than the rest of it.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(context: typer.Context, output: Output = None, debug: Debug = False, server: Server = "") -> None:
    """Run agents and workflows that are declared as resources.

    Start with `stigmer run FILE`: it brings everything a workflow needs.
    """
    context.obj = Globals(output=output, debug=debug, server=server)


for _command in (run, up, down, status, logs, apply, get, watch, validate, delete, version):
    app.command()(_command)
