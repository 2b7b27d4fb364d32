"""`stigmer pause`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stigmer_cli.commands.cancel import CONFLICT
from stigmer_cli.options import Debug, Output, Reason, Runs, Server, Wait, session

if TYPE_CHECKING:
    from stigmer_cli.runs.control import Outcome


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
    from stigmer_cli.runs.control import OVER
    from stigmer_cli.runs.controlling import Control, by_method, control

    aim = frozenset({"PAUSED"})
    what = Control(
        command="stigmer pause",
        call=by_method("pause", reason),
        done=_done,
        awaited=OVER | aim,
        aim=aim,
        missed=CONFLICT,
    )
    raise typer.Exit(control(made, runs, what, wait=wait))


def _done(outcome: Outcome) -> str:
    from stigmer_cli.runs.control import told_stopped

    return told_stopped(outcome, "PAUSED")
