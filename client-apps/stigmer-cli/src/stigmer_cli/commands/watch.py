"""`stigmer watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.options import Debug, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session


def watch(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A run's id, such as wex-… or aex-….")],
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Follow a run until it is over, and print its output.

    Lost connections and restarts of the server are no end of it. Where an agent waits for a person, you are asked.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.runs.states import kind_of_run

    kind_of_run(identifier)
    try:
        code = runtime.run(_watch(made, identifier))
    except runtime.InterruptedByUserError:
        console.note(f"interrupted; {identifier} is not touched by that")
        raise
    raise typer.Exit(code)


async def _watch(made: Session, identifier: str) -> int:
    from stigmer_cli.connection import connect, running_stack
    from stigmer_cli.errors import UnavailableError
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Resources
    from stigmer_cli.runs.follow import follow_again
    from stigmer_cli.runs.onlooking import Onlooker
    from stigmer_cli.runs.outcome import tell
    from stigmer_cli.runs.states import kind_of_run, shape_of
    from stigmer_cli.runs.whole import with_output

    with Onlooker(made, identifier) as onlooker:
        async with connect(made.environment, server=made.server, command="stigmer watch") as channel:
            resources = Resources(channel)
            reference = Reference(kind=kind_of_run(identifier), id=identifier)
            run = shape_of(identifier).read(await resources.get(reference))
            if run.is_over:
                await onlooker.see(resources, run)
                run = await with_output(resources, run, made.output)
        if not run.is_over:
            if not made.server and not made.environment.server_address and running_stack(made.environment) is None:
                msg = f"{identifier} waits, because no stack runs here"
                raise UnavailableError(msg, hint="`stigmer up --detach` lets it go on")
            run = await follow_again(made, identifier, onlooker.see, command="stigmer watch", own=False)
    return tell(run, made.output, showed_answer=onlooker.showed_answer)
