"""Following a run to its end, through lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stigmer_protos import descriptors

from stigmer_cli import console
from stigmer_cli.errors import UnavailableError
from stigmer_cli.options import Session
from stigmer_cli.resources import Resources
from stigmer_cli.runs.execution import Execution, read_execution
from stigmer_cli.runs.place import open_place

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
PATIENCE_SECONDS = 60.0


class ConnectionLostError(UnavailableError):
    """The connection went away before the run was over; it may be tried again."""


async def follow(resources: Resources, identifier: str, seen: Callable[[Execution], None]) -> Execution:
    """Report every new state of the run to `seen`, and return the last one.

    States in between may be skipped, the last one never is.

    Raises:
        ConnectionLostError: The server went away before the run was over.
    """
    from stigmer_grpc.errors import CancelledError
    from stigmer_grpc.errors import UnavailableError as ServerAwayError

    kind = descriptors.kind_by_enum_name("workflow_execution")
    try:
        async for message in resources.subscribe(kind, identifier):
            execution = read_execution(message)
            seen(execution)
            if execution.is_over:
                return execution
    except (ServerAwayError, CancelledError) as error:
        raise _lost(identifier) from error
    raise _lost(identifier)


async def follow_again(
    session: Session, identifier: str, seen: Callable[[Execution], None], *, command: str, own: bool
) -> Execution:
    """As `follow`, on a server found anew after each loss; `own` allows to start a stack when none runs any more.

    Raises:
        UnavailableError: No server came back for a minute.
    """
    pause, waited = FIRST_PAUSE, 0.0
    while True:
        try:
            async with open_place(session, command=command, own=own) as place:
                waited, pause = 0.0, FIRST_PAUSE
                return await place.do(follow(place.resources, identifier, seen))
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
