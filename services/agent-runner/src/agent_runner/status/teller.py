"""Tells the server the words of an agent as they come: word by word while it keeps up, in larger pieces when not.

It holds nothing back and nothing up: what is still to be told is read from the drafts when there is time to, and all of
it is in the status anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from loguru import logger
from stigmer_grpc.errors import RpcError, UnimplementedError

from agent_runner.status.drafts import Delta, Drafts

Tell = Callable[[Sequence[Delta]], Awaitable[None]]
"""Sends deltas. Raises: RpcError."""

_GATHER = 0.02
"""Seconds from one message to the next; what is said meanwhile goes together."""
_PAUSE = 1.0
"""Seconds after a message that did not arrive."""
_MOST = 64


class Teller:
    """Tells what is new in the drafts of one turn."""

    def __init__(self, drafts: Drafts, tell: Tell) -> None:
        self._drafts = drafts
        self._tell = tell

    async def run(self) -> None:
        """Tell what there is until cancelled; whatever goes wrong with it is no harm to the turn."""
        while True:
            await self._drafts.changed.wait()
            self._drafts.changed.clear()
            while deltas := self._drafts.due()[:_MOST]:
                try:
                    await self._tell(deltas)
                except UnimplementedError:
                    logger.info("the server passes no words on: it is older than this runner")
                    await asyncio.Event().wait()
                except RpcError as error:
                    logger.info("words were not passed on: {}", error)
                    await asyncio.sleep(_PAUSE)
                    continue
                for delta in deltas:
                    self._drafts.told(delta)
                await asyncio.sleep(_GATHER)
