"""How the server's parts are: the store, Temporal, and the runners, which Temporal knows by their asking for work.

One task looks at all of them every few seconds, tells whoever wants to know of changes, and keeps what it saw for those
who ask meanwhile; so asking often costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from loguru import logger
from stigmer_sqlite import SqliteStore, StoreError

STORE, TEMPORAL = "store", "temporal"
_EVERY_SECONDS = 5.0
_FRESH_SECONDS = 1.0
_PATIENCE_SECONDS = 3.0
_FAULT_SECONDS = 30.0
"""How long a failed commit is held against a store that nobody has written since."""


class State(IntEnum):
    """How a component is; the numbers are the contract's."""

    READY = 1
    AWAY = 2
    OFF = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Something that the server needs."""

    name: str
    state: State
    detail: str = ""
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How all components were at one moment."""

    components: tuple[Component, ...]

    @property
    def ready(self) -> bool:
        """Whether everything is there that is needed."""
        return all(component.state is not State.AWAY for component in self.components)


class Pollers(Protocol):
    """Temporal, as far as it is looked at."""

    @property
    def connected(self) -> bool:
        """Whether it answered when last asked."""
        ...

    async def pollers(self, queue: str) -> int:
        """Return how many workers take work from a task queue. Raises: Exception when it does not answer."""
        ...


class Status:
    """How the components of one server are.

    Args:
        store: The server's database.
        temporal: None: the server does without.
        place: Where Temporal is, for people.
        runners: Name of each runner's component → the task queue it works on, or "" for one that is not needed.
        changed: Told of every component at first, and again when its state changes.
    """

    def __init__(
        self,
        store: SqliteStore,
        temporal: Pollers | None,
        *,
        place: str,
        runners: Mapping[str, str],
        changed: Callable[[Component], None],
    ) -> None:
        self.started_at = time.time()
        """Seconds since the epoch."""
        self._store = store
        self._temporal = temporal
        self._place = place
        self._runners = runners
        self._changed = changed
        self._seen: Snapshot | None = None
        self._seen_at = 0.0
        self._looking: asyncio.Task[Snapshot] | None = None

    async def snapshot(self) -> Snapshot:
        """Return how the components are now, or were a second ago."""
        if self._seen is not None and time.monotonic() - self._seen_at < _FRESH_SECONDS:
            return self._seen
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="status")
        return await asyncio.shield(self._looking)

    async def keep_looking(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            try:
                await self.snapshot()
            except Exception:  # noqa: BLE001 - a fault in one round must not end the looking
                logger.exception("the state of the server could not be told")
            await asyncio.sleep(_EVERY_SECONDS)

    async def _look(self) -> Snapshot:
        components = [await self._look_at_store(), *await self._look_at_temporal()]
        known = {} if self._seen is None else {component.name: component.state for component in self._seen.components}
        for component in components:
            if known.get(component.name) is not component.state:
                self._changed(component)
        self._seen, self._seen_at = Snapshot(components=tuple(components)), time.monotonic()
        return self._seen

    async def _look_at_store(self) -> Component:
        try:
            await self._store.find("agent", org_id=None, slug="-")
        except StoreError as error:
            return Component(name=STORE, state=State.AWAY, detail=str(error))
        told = self._store.statistics()
        ago = time.monotonic() - told.fault_at
        if told.fault and ago < _FAULT_SECONDS:
            return Component(name=STORE, state=State.AWAY, detail=f"{told.fault}, {ago:.0f} s ago")
        return Component(name=STORE, state=State.READY)

    async def _look_at_temporal(self) -> list[Component]:
        if self._temporal is None:
            off = "this server starts no runs"
            return [Component(name=name, state=State.OFF, detail=off) for name in (TEMPORAL, *self._runners)]
        if not self._temporal.connected:
            return self._temporal_is_away("")
        runners: list[Component] = []
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                for name, queue in self._runners.items():
                    runners.append(await self._look_at_runner(self._temporal, name, queue))
        except Exception as error:  # noqa: BLE001 - whatever it is, Temporal does not answer
            return self._temporal_is_away(f": {error}" if str(error) else "")
        return [Component(name=TEMPORAL, state=State.READY, detail=self._place), *runners]

    async def _look_at_runner(self, temporal: Pollers, name: str, queue: str) -> Component:
        if not queue:
            return Component(name=name, state=State.OFF, detail="not needed, says --runners")
        count = await temporal.pollers(queue)
        if not count:
            return Component(name=name, state=State.AWAY, detail=f"no worker takes work from {queue}")
        workers = "a worker takes" if count == 1 else f"{count} workers take"
        return Component(name=name, state=State.READY, detail=f"{workers} work from {queue}")

    def _temporal_is_away(self, why: str) -> list[Component]:
        away = Component(name=TEMPORAL, state=State.AWAY, detail=f"{self._place} does not answer{why}")
        unknown = "not known while Temporal is away"
        return [
            away,
            *(
                Component(name=name, state=State.AWAY if queue else State.OFF, detail=unknown if queue else "")
                for name, queue in self._runners.items()
            ),
        ]
