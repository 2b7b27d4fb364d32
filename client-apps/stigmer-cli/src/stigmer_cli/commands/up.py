"""`stigmer up`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Output, session

if TYPE_CHECKING:
    from stigmer_cli.environment import Auth
    from stigmer_cli.options import Session
    from stigmer_cli.stack.state import StackStatus


class _Auth(StrEnum):
    """Whom the server lets in."""

    TOKEN = "token"  # noqa: S105 - the name of a way to sign in
    NONE = "none"


_STARTING = "starting Temporal, the server and the runners"


def up(
    context: typer.Context,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything serves, and leave it running.")
    ] = False,
    auth: Annotated[
        _Auth,
        typer.Option(
            "--auth",
            help="Whom the server lets in: token: who can read the token file in the home, as this command does; "
            "none: everybody on this machine, such as older clients.",
        ),
    ] = _Auth.TOKEN,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Start the local stack: Temporal, the server and the runners. Ctrl-C ends it."""
    made = session(context, output=output, debug=debug)
    from stigmer_cli import runtime

    if detach:
        console.result(_told(runtime.run(_detached(made, auth.value)), made.output))
        return
    try:
        runtime.run(_foreground(made, auth.value))
    except runtime.InterruptedByUserError:
        console.note("stopped")


async def _foreground(made: Session, auth: Auth) -> None:
    from stigmer_cli.stack.stack import Stack

    async with AsyncExitStack() as held:
        with console.waiting(_STARTING):
            stack = await held.enter_async_context(Stack(made.environment, command="stigmer up", auth=auth, http=True))
            await stack.ready()
        console.result(_told(stack.status, made.output))
        console.note("Ctrl-C ends it; `stigmer run FILE` in another terminal uses it")
        try:
            await stack.unguarded()
        finally:
            console.note("stopping …")


async def _detached(made: Session, auth: Auth) -> StackStatus:
    from stigmer_cli.stack.detached import start_detached

    with console.waiting(_STARTING):
        status, was_running = await start_detached(made.environment, auth=auth)
    if was_running:
        console.note(f"the stack runs already, process {status.pid}, since {status.started_at}")
        if status.auth != auth:
            console.note(f"  with --auth {status.auth}; `stigmer down` ends it, so that it can be started otherwise")
    return status


def _told(status: StackStatus, output: OutputFormat) -> str:
    if output in {OutputFormat.JSON, OutputFormat.YAML}:
        return console.structured(status.to_dict(), output)
    if output is OutputFormat.NAME:
        return status.server
    lines = [f"server         {status.server}", f"Temporal       {status.temporal}"]
    if status.http:
        lines.insert(1, f"server's HTTP  {status.http}, described at /docs")
    if status.temporal_page:
        lines.append(f"Temporal page  {status.temporal_page}")
    return "\n".join(lines)
