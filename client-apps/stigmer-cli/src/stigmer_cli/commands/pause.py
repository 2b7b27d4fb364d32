"""`stigmer pause`."""

from __future__ import annotations

import typer

from stigmer_cli.options import Debug, Output, Reason, Runs, Server, Wait, session


def pause(
    context: typer.Context,
    runs: Runs,
    reason: Reason = "",
    wait: Wait = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Hold runs where they can go on later."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.runs.controlling import bring

    raise typer.Exit(bring(made, runs, "pause", "PAUSED", reason=reason, wait=wait))
