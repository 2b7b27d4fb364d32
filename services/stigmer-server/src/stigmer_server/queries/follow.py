"""Follow an agent's execution word by word: its states as `subscribe` gives them, and what is said in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stigmer_server.encoding import delimited
from stigmer_server.kinds import Kind
from stigmer_server.live import Listener, Live, news
from stigmer_server.resources import Resources
from stigmer_server.streams import Follower, Streams

_EXECUTION = 1
"""Number of the field of AgentExecutionLive that holds a state."""


async def follow(resources: Resources, streams: Streams, live: Live, kind: Kind, id: str) -> AsyncIterator[bytes]:
    """Yield the execution's state, then what has been said of what is not finished, then whatever comes.

    A reader that is slower than what comes gets the newest state, and texts in larger pieces. Ends as `subscribe` does.

    Raises:
        MissingError: There is no such execution.
    """
    with streams.follow(kind, id) as follower:
        follower.offer(await resources.record(kind, id))
        with live.listening(id) as listener:
            async for each in _merged(follower, listener):
                yield each
        if follower.is_over:
            live.forget(id)


async def _merged(follower: Follower, listener: Listener) -> AsyncIterator[bytes]:
    states = aiter(follower)
    state = await anext(states, None)
    while state is not None:
        yield delimited(_EXECUTION, state)
        if follower.is_over:
            return
        coming = asyncio.ensure_future(anext(states, None))
        coming.add_done_callback(lambda _: listener.wake())
        try:
            # The words first: a final state is the last that is told.
            while True:
                for delta in await listener.heard():
                    yield news(delta)
                if coming.done():
                    break
            state = coming.result()
        finally:
            coming.cancel()
