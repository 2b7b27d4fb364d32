"""Letting Temporal see that the worker of an activity lives."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from temporalio import activity

CALL_SECONDS = 10.0
"""Without a sign of life for so long, the worker that makes a call counts as lost. Not short: a call whose
worker only seems lost may have to end as an error."""
SERVER_SECONDS = 4.0
"""The same for a word with the server, which can be had again at any time."""
_BEATS = 4


@contextlib.asynccontextmanager
async def heartbeats(seconds: float) -> AsyncGenerator[None]:
    """Give several signs of life in each `seconds`, while the block runs. A local activity needs none."""
    if activity.info().is_local:
        yield
        return

    async def beat() -> None:
        while True:
            await asyncio.sleep(seconds / _BEATS)
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
