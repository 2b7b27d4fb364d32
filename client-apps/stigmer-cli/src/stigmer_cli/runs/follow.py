"""Following a run to its end, through lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from stigmer_cli import console
from stigmer_cli.errors import UnavailableError
from stigmer_cli.options import Session
from stigmer_cli.resources import Resources
from stigmer_cli.runs.live import live_states
from stigmer_cli.runs.place import open_place
from stigmer_cli.runs.states import Run, kind_of_run, shape_of
from stigmer_cli.runs.whole import with_output

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
PATIENCE_SECONDS = 60.0


class ConnectionLostError(UnavailableError):
    """The connection went away before the run was over; it may be tried again."""


Seen = Callable[[Resources, Run], Awaitable[None]]
"""Is told of every new state of a run, and may do something about it."""


async def follow(resources: Resources, identifier: str, seen: Seen) -> Run:
    """Report every new state of the run to `seen`, and return the last one.

    States in between may be skipped, the last one never is.

    Raises:
        ConnectionLostError: The server went away before the run was over.
    """
    from stigmer_grpc.errors import CancelledError
    from stigmer_grpc.errors import UnavailableError as ServerAwayError

    kind, shape = kind_of_run(identifier), shape_of(identifier)
    try:
        # Closed here: what is left to be collected some time belongs to no trace any more.
        async with aclosing(live_states(resources, kind, identifier)) as states:
            async for message in states:
                run = shape.read(message)
                await seen(resources, run)
                if run.is_over:
                    return run
    except (ServerAwayError, CancelledError) as error:
        raise _lost(identifier) from error
    raise _lost(identifier)


async def follow_again(session: Session, identifier: str, seen: Seen, *, command: str, own: bool) -> Run:
    """As `follow`, on a server found anew after each loss; `own` allows to start a stack when none runs any more.

    Raises:
        UnavailableError: No server came back for a minute.
    """
    pause, waited = FIRST_PAUSE, 0.0
    while True:
        try:
            async with open_place(session, command=command, own=own) as place:
                waited, pause = 0.0, FIRST_PAUSE
                run = await place.do(follow(place.resources, identifier, seen))
                return await place.do(with_output(place.resources, run, session.output))
        except UnavailableError:
            if waited >= PATIENCE_SECONDS:
                raise
        if not waited:
            console.note("the connection was lost, looking for the server …")
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, LONGEST_PAUSE)


def _lost(identifier: str) -> ConnectionLostError:
    return ConnectionLostError(
        f"the connection to the server was lost; {identifier} may go on without it",
        hint=f"`stigmer up` brings the stack back, then `stigmer watch {identifier}`",
    )
