"""What may be given to calls at once: all that begin in one step of a run goes to Temporal in one message.

A message takes four million bytes, and Temporal ends a run for good whose step makes a larger one. So calls wait until
others, which were given much, are over; and the answers to local calls of branches side by side, which go into history
together, have a share of the message each. Workflow code.
"""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from temporalio import workflow

from workflow_runner.sizes import inline_size

MOST_SENT_BYTES = 2_000_000
"""What calls in progress may have been given together."""
_MOST_ANSWERED_BYTES = 1_200_000
"""What the answers to local calls of branches may take together."""
_FORMER_BYTES = 2_500_000
"""What runs may give together that began without a bound of their own; they look at it only where they have blobs."""


class Room:
    """The room that one run has in its messages."""

    def __init__(self, limits: Mapping[str, Any]) -> None:
        self._most: int = limits.get("max_sent_bytes", 0)
        self._most_inline: int = limits.get("max_inline_bytes", 0)
        self._taken = 0

    def inline(self, size: int) -> int:
        """Return what a value of some size takes in history."""
        return inline_size(size, self._most_inline)

    def share(self, taken: int, calls: int) -> int:
        """Return what the answer to one of several local calls may take, beside `taken` bytes of others before."""
        return max(0, _MOST_ANSWERED_BYTES - taken) // calls

    @contextlib.asynccontextmanager
    async def taken(self, size: int) -> AsyncGenerator[None]:
        """Wait until a call that is given so much fits into a message with those in progress, and be one of them."""
        size, takes = self.inline(size), False

        def take() -> bool:
            # Here and not by whoever waited: of several that wait, all hear at once that there is room.
            nonlocal takes
            if not self._taken or self._taken + size <= self._most:
                self._taken += size
                takes = True
            return takes

        try:
            if self._most:
                if not take():
                    await workflow.wait_condition(take)
            else:
                if self._most_inline:
                    await workflow.wait_condition(lambda: not self._taken or self._taken + size <= _FORMER_BYTES)
                self._taken += size
                takes = True
            yield
        finally:
            if takes:
                self._taken -= size
