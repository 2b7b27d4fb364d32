"""What goes to Temporal in one message: all that begins in one step of a run.

A message takes four million bytes, and Temporal ends a run for good whose step makes a larger one. So a call that is
given much begins in a later step than others that are; and the answers to local calls of branches side by side, which
go into history together, have a share of the message each. Workflow code.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import Any

from temporalio import workflow

from workflow_runner.sizes import inline_size

MOST_SENT_BYTES = 2_000_000
"""What calls that begin in one step may be given together."""
_MOST_ANSWERED_BYTES = 1_200_000
"""What the answers to local calls of branches may take together."""
_FORMER_BYTES = 2_500_000
"""What calls in progress may be given in runs that began without a bound for steps, where there are blobs."""
_MOMENT = timedelta(milliseconds=1)


class Room:
    """The room that one run has in its messages."""

    def __init__(self, limits: Mapping[str, Any]) -> None:
        self._most: int = limits.get("max_sent_bytes", 0)
        self._most_inline: int = limits.get("max_inline_bytes", 0)
        self._taken = 0
        self._history_length: int = 0
        self._door = asyncio.Lock()

    def inline(self, size: int) -> int:
        """Return what a value of some size takes in history."""
        return inline_size(size, self._most_inline)

    def share(self, taken: int, calls: int) -> int:
        """Return what the answer to one of several local calls may take, beside `taken` bytes of others before."""
        return max(0, _MOST_ANSWERED_BYTES - taken) // calls

    @contextlib.asynccontextmanager
    async def taken(self, size: int) -> AsyncGenerator[None]:
        """Wait until a call that is given so much fits into a message with others; it is to begin then, in the block.

        In a run that began before there was a bound for steps, it fits once of the others enough are over.
        """
        size = self.inline(size)
        if self._most:
            await self._take(size)
            yield
            return
        if self._most_inline:
            await workflow.wait_condition(lambda: not self._taken or self._taken + size <= _FORMER_BYTES)
        self._taken += size
        try:
            yield
        finally:
            self._taken -= size

    async def _take(self, size: int) -> None:
        # One after the other: of many that wait, one has a timer.
        async with self._door:
            while not self._fits(size):
                await workflow.sleep(_MOMENT)
            self._taken += size

    def _fits(self, size: int) -> bool:
        length = workflow.info().get_current_history_length()
        if length != self._history_length:  # another step, with a message of its own
            self._history_length, self._taken = length, 0
        return not self._taken or self._taken + size <= self._most
