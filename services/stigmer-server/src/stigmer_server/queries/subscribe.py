"""Follow an execution: its state now, and every newer one, until it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources
from stigmer_server.streams import Streams


async def subscribe(resources: Resources, streams: Streams, kind: Kind, id: str) -> AsyncIterator[bytes]:
    """Yield the execution's state, whole and redacted, each time it has changed.

    Between the first state and those that follow nothing is missed. A reader that is slower than the changes
    gets the newest state when it asks again; the final one is never left out. Ends after a finished state, and when
    the execution is deleted or the server stops.

    Raises:
        MissingError: There is no such execution.
    """
    with streams.follow(kind, id) as follower:
        # Registered first: a change that is committed while the snapshot is read is told afterwards.
        follower.offer(await resources.record(kind, id))
        async for state in follower:
            yield state
