"""`stigmer cancel`."""

from __future__ import annotations

import typer

from stigmer_cli.options import Debug, Output, Reason, Runs, Server, Wait, session


def cancel(
    context: typer.Context,
    runs: Runs,
    reason: Reason = "",
    wait: Wait = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Stop runs, and let their error handlers clean up.

    A run that was cancelled before stays so. With --wait, exit code 4 when one of them ended otherwise.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.runs.controlling import bring

    raise typer.Exit(bring(made, runs, "cancel", "CANCELLED", reason=reason, wait=wait))
