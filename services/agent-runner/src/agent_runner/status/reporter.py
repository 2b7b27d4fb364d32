"""Tells the server how a run goes: at once what matters, now and then the text of an answer that is being given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger
from stigmer_grpc.errors import RpcError

from agent_runner.errors import ExecutionEndedError
from agent_runner.status.builder import StatusBuilder
from agent_runner.turn.events import Event, Said

Push = Callable[[Any], Awaitable[None]]
"""Sends a whole AgentExecutionStatus.

Raises:
    ExecutionEndedError: The server takes no more of this execution.
    RpcError: Anything else went wrong.
"""

_AT_ONCE = 0.05
"""Seconds that events are gathered for before they are sent together."""
_PAUSE = 1.0
"""Seconds before a report that did not arrive is made again."""


class StatusReporter:
    """Reports one status, never two at a time, so that the newest is always the last to arrive.

    Args:
        builder: Whose status is reported.
        push: Sends it.
        seconds: Pause between reports of text.
    """

    def __init__(self, builder: StatusBuilder, push: Push, *, seconds: float) -> None:
        self._builder = builder
        self._push = push
        self._seconds = seconds
        self._sending = asyncio.Lock()
        self._due: float | None = None
        self._changed = asyncio.Event()

    def observe(self, event: Event) -> None:
        """Take an event into the status, and report it soon."""
        self._builder.observe(event)
        self.soon(self._seconds if isinstance(event, Said) else _AT_ONCE)

    def soon(self, seconds: float = _AT_ONCE) -> None:
        """Report within `seconds`."""
        due = asyncio.get_running_loop().time() + seconds
        if self._due is None or due < self._due:
            self._due = due
            self._changed.set()

    async def run(self) -> None:
        """Report what is due until cancelled. A report that does not arrive is made again later.

        Raises:
            ExecutionEndedError: The server takes no more of this execution.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._due is not None and (wait := self._due - loop.time()) > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()  # something more urgent
                    self._changed.clear()
                except TimeoutError:
                    break
            await self.settle()

    async def settle(self) -> None:
        """Report now what is due, and wait for a report under way; what did not reach the server stays due.

        Raises:
            ExecutionEndedError: The server takes no more of this execution.
        """
        async with self._sending:
            pass
        if self._due is None:
            return
        try:
            await self.flush()
        except RpcError as error:
            logger.warning("a report did not arrive: {}", error)
            self.soon(_PAUSE)

    async def flush(self) -> None:
        """Report now.

        Raises:
            ExecutionEndedError: The server takes no more of this execution.
            RpcError: The report did not arrive.
        """
        async with self._sending:
            self._due = None
            try:
                await self._push(self._builder.status)
            except ExecutionEndedError:
                self.soon()  # whoever waited for this report must hear it, too
                raise
