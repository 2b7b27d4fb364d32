"""`stigmer down`."""

from __future__ import annotations

import typer

from stigmer_cli import console
from stigmer_cli.options import Debug, session


def down(context: typer.Context, debug: Debug = False) -> None:
    """End the local stack and wait until all of it is gone."""
    made = session(context, output=None, debug=debug)
    from stigmer_cli import runtime
    from stigmer_cli.stack.detached import stop

    holder = runtime.run(stop(made.environment))
    if holder is None:
        console.note("no stack runs here")
    else:
        console.note(f"stopped `{holder.command}`, process {holder.pid}; runs go on when the stack is up again")
