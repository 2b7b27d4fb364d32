"""`stigmer watch`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.runs.execution import Execution


def watch(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A run's id, such as wex-…")],
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Follow a run until it is over, and print its output.

    Lost connections and restarts of the server are no end of it.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import references, runtime
    from stigmer_cli.errors import InvalidInputError
    from stigmer_cli.runs.outcome import tell

    kind = references.kind_of_id(identifier)
    if kind is None or kind.enum_name != "workflow_execution":
        msg = f"{identifier!r} is not the id of a run"
        raise InvalidInputError(msg, hint="`stigmer get runs` lists them")
    try:
        execution = runtime.run(_watch(made, identifier))
    except runtime.InterruptedByUserError:
        console.note(f"interrupted; {identifier} is not touched by that")
        raise
    raise typer.Exit(tell(execution, made.output))


async def _watch(made: Session, identifier: str) -> Execution:
    from stigmer_protos import descriptors

    from stigmer_cli.connection import connect, running_stack
    from stigmer_cli.errors import UnavailableError
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Resources
    from stigmer_cli.runs.execution import read_execution
    from stigmer_cli.runs.follow import follow_again
    from stigmer_cli.runs.view import RunView

    with RunView(enabled=made.output is OutputFormat.TABLE or sys.stderr.isatty()) as view:
        kind = descriptors.kind_by_enum_name("workflow_execution")
        async with connect(made.environment, server=made.server, command="stigmer watch") as channel:
            execution = read_execution(await Resources(channel).get(Reference(kind=kind, id=identifier)))
        if execution.is_over:
            view.update(execution)
            return execution
        if not made.server and not made.environment.server_address and running_stack(made.environment) is None:
            msg = f"{identifier} waits, because no stack runs here"
            raise UnavailableError(msg, hint="`stigmer up --detach` lets it go on")
        return await follow_again(made, identifier, view.update, command="stigmer watch", own=False)
