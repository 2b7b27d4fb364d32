"""The connections of a worker: one for each session and MCP server, made when needed and closed when unused."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from loguru import logger

from agent_runner.tools.port import Transport
from agent_runner.tools.settings import ToolSettings

if TYPE_CHECKING:
    from agent_runner.tools.connection import Connection

_SWEEP_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose connection it is."""

    thread: str
    server: str


class Connections:
    """All connections; made by `open`, which closes them at the end."""

    def __init__(self, settings: ToolSettings) -> None:
        self._start_seconds = settings.start_seconds
        self._idle_seconds = settings.idle_seconds
        self._kept: dict[Place, tuple[str, Connection]] = {}
        self._locks: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ToolSettings) -> AsyncGenerator[Connections]:
        """Keep connections while the block runs."""
        connections = cls(settings)
        sweeping = asyncio.create_task(connections._sweep())
        try:
            yield connections
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await connections.close()

    async def get(self, place: Place, fingerprint: str, make: Callable[[], Transport]) -> Connection:
        """The connection of a place, made anew when it has dropped, or was to something else.

        Args:
            place: Whose it is.
            fingerprint: Says what it is connected to, and with which values.
            make: Makes the transport of a new one.

        Raises:
            ServerError: There is none, and none can be made.
        """
        async with self._lock(place):
            known = self._kept.get(place)
            if known is not None:
                if known[0] == fingerprint and not known[1].ended:
                    known[1].used_at = time.monotonic()
                    return known[1]
                del self._kept[place]
                await known[1].close()
            from agent_runner.tools.connection import Connection  # takes a second to load: not for who never needs it

            connection = await Connection.open(place.server, make(), seconds=self._start_seconds)
            self._kept[place] = (fingerprint, connection)
            return connection

    async def close(self) -> None:
        """Close all of them."""
        kept, self._kept = self._kept, {}
        await asyncio.gather(*(connection.close() for _, connection in kept.values()))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._idle_seconds))
            for place in list(self._kept):
                await self._leave(place)

    async def _leave(self, place: Place) -> None:
        async with self._lock(place):
            if place not in self._kept:
                return
            _, connection = self._kept[place]
            idle = not connection.in_flight and time.monotonic() - connection.used_at > self._idle_seconds
            if idle or connection.ended:
                del self._kept[place]
                logger.debug("the connection to MCP server {} is closed", place.server)
                with contextlib.suppress(Exception):
                    await connection.close()

    def _lock(self, place: Place) -> asyncio.Lock:
        """The lock of a place, which is there as long as somebody has it or waits for it."""
        return self._locks.setdefault(place, asyncio.Lock())
