"""`stigmer terminate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stigmer_cli.commands.cancel import CONFLICT
from stigmer_cli.options import Debug, Output, Reason, Runs, Server, Wait, session

if TYPE_CHECKING:
    from stigmer_cli.runs.control import Outcome


def terminate(
    context: typer.Context,
    runs: Runs,
    reason: Reason = "",
    wait: Wait = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Stop runs at once, without cleaning up.

    The reason becomes their error. With --wait, exit code 4 when one of them ended otherwise.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.runs.controlling import Control, by_method, control

    what = Control(
        command="stigmer terminate",
        call=by_method("terminate", reason),
        done=_done,
        aim=frozenset({"TERMINATED"}),
        missed=CONFLICT,
    )
    raise typer.Exit(control(made, runs, what, wait=wait))


def _done(outcome: Outcome) -> str:
    from stigmer_cli.runs.control import told_stopped

    return told_stopped(outcome, "TERMINATED")
