"""`stigmer status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Output, session

if TYPE_CHECKING:
    from stigmer_cli.stack.state import StackStatus

NOT_RUNNING = 3
NOT_WHOLE = 5


def status(context: typer.Context, output: Output = None, debug: Debug = False) -> None:
    """Show what runs. Exit code 0: everything serves; 3: no stack runs here; 5: something of it does not serve."""
    made = session(context, output=output, debug=debug)
    from stigmer_cli.stack.lock import find_holder
    from stigmer_cli.stack.state import ComponentState, read_status

    holder = find_holder(made.environment.home.lock)
    found = read_status(made.environment.home.state)
    if holder is None or found is None or found.pid != holder.pid:
        if made.output in {OutputFormat.JSON, OutputFormat.YAML}:
            console.result(console.structured({"running": False}, made.output))
        busy = f"`{holder.command}`, process {holder.pid}, is at work" if holder is not None else ""
        console.note(busy or "no stack runs here")
        console.note("  start one: `stigmer up --detach`")
        raise typer.Exit(NOT_RUNNING)
    console.result(_told(found, made.output))
    if not all(component.state is ComponentState.RUNNING for component in found.components):
        raise typer.Exit(NOT_WHOLE)


def _told(found: StackStatus, output: OutputFormat) -> str:
    if output in {OutputFormat.JSON, OutputFormat.YAML}:
        return console.structured({"running": True, **found.to_dict()}, output)
    if output is OutputFormat.NAME:
        return "\n".join(component.name for component in found.components)
    rows = [
        (
            component.name,
            component.state.value,
            str(component.pid or "-"),
            component.address or "-",
            str(component.restarts),
            _uptime(component.started_at),
            component.detail,
        )
        for component in found.components
    ]
    return console.table(("COMPONENT", "STATE", "PID", "ADDRESS", "RESTARTS", "UPTIME", ""), rows)


def _uptime(started_at: str) -> str:
    from stigmer_cli.runs.view import duration

    if not started_at:
        return "-"
    return duration((datetime.now(UTC) - datetime.fromisoformat(started_at)).total_seconds())
