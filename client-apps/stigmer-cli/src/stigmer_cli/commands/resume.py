"""`stigmer resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stigmer_cli.options import Debug, Output, Reason, Runs, Server, Wait, session

if TYPE_CHECKING:
    from stigmer_cli.runs.control import Outcome


def resume(
    context: typer.Context,
    runs: Runs,
    reason: Reason = "",
    wait: Wait = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Let paused runs go on. With --wait, exit code 1 when one of them fails."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.runs.controlling import Control, by_method, control

    what = Control(command="stigmer resume", call=by_method("resume", reason), done=_done, aim=frozenset({"COMPLETED"}))
    raise typer.Exit(control(made, runs, what, wait=wait))


def _done(outcome: Outcome) -> str:
    from stigmer_cli.runs.control import told_going_on

    return told_going_on(outcome, "goes on")
