"""`stigmer status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Output, Server, Session, session

if TYPE_CHECKING:
    from stigmer_cli.environment import Environment
    from stigmer_cli.server_state import ServerState
    from stigmer_cli.stack.state import StackStatus

NOT_RUNNING = 3
NOT_WHOLE = 5
_LOOK_SECONDS = 1.2


def status(context: typer.Context, output: Output = None, debug: Debug = False, server: Server = "") -> None:
    """Show what runs, and what the server can reach.

    Exit code 0: everything serves; 3: no stack runs here; 5: something of it does not serve. With --server it is that
    server alone, wherever it runs.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.connection import running_stack
    from stigmer_cli.stack.lock import find_holder
    from stigmer_cli.stack.state import ComponentState, read_status

    if address := made.server or made.environment.server_address:
        _one_server(made, address)
        return
    holder = find_holder(made.environment.home.lock)
    found = read_status(made.environment.home.state)
    if holder is None or found is None or found.pid != holder.pid:
        if made.output.is_structured:
            console.result(console.structured({"running": False}, made.output))
        busy = f"`{holder.command}`, process {holder.pid}, is at work" if holder is not None else ""
        console.note(busy or "no stack runs here")
        console.note("  start one: `stigmer up --detach`")
        raise typer.Exit(NOT_RUNNING)
    state = _ask(found, made.environment) if running_stack(made.environment) is not None else "it does not serve yet"
    console.result(_told(found, state, made.output))
    if isinstance(state, str):
        console.note(f"the server does not tell what it can reach: {state}")
    is_whole = all(component.state is ComponentState.RUNNING for component in found.components)
    if not is_whole or (not isinstance(state, str) and state.away):
        raise typer.Exit(NOT_WHOLE)


def _one_server(made: Session, address: str) -> None:
    from stigmer_cli import runtime
    from stigmer_cli.server_state import server_state

    state = runtime.run(server_state(address, made.environment))
    if isinstance(state, str):
        told: dict[str, Any] = {"address": address, "ready": None, "detail": state}
        console.result(console.structured(told, made.output) if made.output.is_structured else address)
        console.note(f"it answers, and does not tell more: {state}")
        return
    if made.output.is_structured:
        console.result(console.structured(state.to_dict(), made.output))
    elif made.output is OutputFormat.NAME:
        console.result("\n".join(need.name for need in state.needs))
    else:
        console.result("\n".join([f"{address}  {state.version}  up {_uptime(state.started_at)}", "", *_needs(state)]))
    if state.away or not state.ready:
        raise typer.Exit(NOT_WHOLE)


def _ask(found: StackStatus, environment: Environment) -> ServerState | str:
    """Return what the server says of itself, or why it says nothing."""
    from stigmer_cli import runtime
    from stigmer_cli.errors import UnavailableError

    try:
        return runtime.run(_asked(found, environment))
    except UnavailableError as error:
        return str(error)


async def _asked(found: StackStatus, environment: Environment) -> ServerState | str:
    """Ask once more when the server misses what has just come up: it looks for it once a second."""
    import asyncio

    from stigmer_cli.server_state import server_state
    from stigmer_cli.stack.state import ComponentState

    state = await server_state(found.server, environment)
    up = {component.name for component in found.components if component.state is ComponentState.RUNNING}
    if not isinstance(state, str) and any(need.name in up for need in state.away):
        await asyncio.sleep(_LOOK_SECONDS)
        state = await server_state(found.server, environment)
    return state


def _told(found: StackStatus, state: ServerState | str, output: OutputFormat) -> str:
    if output.is_structured:
        seen = None if isinstance(state, str) else state.to_dict()
        return console.structured({"running": True, **found.to_dict(), "server_state": seen}, output)
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
    table = console.table(("COMPONENT", "STATE", "PID", "ADDRESS", "RESTARTS", "UPTIME", ""), rows)
    return table if isinstance(state, str) or not state.needs else "\n".join([table, "", *_needs(state)])


def _needs(state: ServerState) -> list[str]:
    rows = [(need.name, need.state, need.detail) for need in state.needs]
    return console.table(("THE SERVER NEEDS", "STATE", ""), rows).split("\n")


def _uptime(started_at: str) -> str:
    from stigmer_cli.runs.phases import duration

    if not started_at:
        return "-"
    return duration((datetime.now(UTC) - datetime.fromisoformat(started_at)).total_seconds())
