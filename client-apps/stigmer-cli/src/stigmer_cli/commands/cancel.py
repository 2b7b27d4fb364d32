"""`stigmer cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stigmer_cli.options import Debug, Output, Reason, Runs, Server, Wait, session

if TYPE_CHECKING:
    from stigmer_cli.runs.control import Outcome

CONFLICT = 4


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
    from stigmer_cli.runs.controlling import Control, by_method, control

    what = Control(
        command="stigmer cancel",
        call=by_method("cancel", reason),
        done=_done,
        aim=frozenset({"CANCELLED"}),
        missed=CONFLICT,
    )
    raise typer.Exit(control(made, runs, what, wait=wait))


def _done(outcome: Outcome) -> str:
    from stigmer_cli.runs.control import told_stopped

    return told_stopped(outcome, "CANCELLED")
