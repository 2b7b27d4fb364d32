"""Looks after executions that have gone quiet: a run that ended without a word, or that nobody takes up.

An execution that changes is alive. One that does not is asked after, seldom and more seldom, so that thousands that
wait for a person cost next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loguru import logger
from stigmer_sqlite.errors import ClosedError, StoreUnavailableError

from stigmer_server import change_feed
from stigmer_server.engine.port import AwayError, Ledger, Runs, Standing
from stigmer_server.kinds import Kind
from stigmer_server.transitions import Phase

WAITING = "Waiting for "
"""How every reason begins that is given, and taken away again, here."""
_LONGEST_PAUSE = 60.0
_AT_ONCE = 8
_MISSES = 2
"""So often must a run be unknown to Temporal before it counts as gone."""
_TICK_SECONDS = 1.0


@dataclass(slots=True)
class _Entry:
    kind: Kind
    next: float
    """When to look, by the monotonic clock."""
    pause: float
    pending_since: float = 0
    """When it was first seen waiting for a runner, by the monotonic clock; 0: it does not."""
    misses: int = 0


class Watch:
    """The watch over every execution that has not ended.

    Args:
        ledger: The executions.
        attend: Has what an execution needs done.
        queues: Name of a kind of executions → task queue of its runners.
        place: Where Temporal is, for people.
        quiet: Seconds without a change after which an execution is asked after.
        patience: Seconds that one may wait for a runner; 0: for ever.
    """

    def __init__(
        self,
        ledger: Ledger,
        attend: Callable[[Kind, str], None],
        queues: Mapping[str, str],
        *,
        place: str,
        quiet: float,
        patience: float,
    ) -> None:
        self._ledger = ledger
        self._attend = attend
        self._queues = queues
        self._place = place
        self._quiet = quiet
        self._patience = patience
        self._entries: dict[str, _Entry] = {}
        self._polled: dict[str, int] = {}

    async def follow(self) -> None:
        """Learn of executions for as long as the server runs."""
        await change_feed.follow(self._ledger.changes, self._look, self._hear, what="what becomes of runs")

    async def _look(self) -> None:
        async for kind, id in self._ledger.unfinished():
            self._note(kind, id)

    async def _hear(self, change: tuple[Kind, str, bool]) -> None:
        kind, id, exists = change
        if exists:
            self._note(kind, id)
        else:
            self._entries.pop(id, None)

    async def run(self, runs: Runs) -> None:
        """Look while Temporal is there. Raises: AwayError."""
        while True:
            await self.look(runs)
            await asyncio.sleep(min(_TICK_SECONDS, self._quiet))

    async def look(self, runs: Runs | None) -> None:
        """Look once after every execution that is due; None: Temporal is away.

        Raises:
            AwayError: Temporal no longer answers.
        """
        now = time.monotonic()
        due = [(id, entry) for id, entry in self._entries.items() if entry.next <= now]
        if not due:
            return
        if runs is not None:
            self._polled = {queue: await runs.pollers(queue) for queue in set(self._queues.values())}
        for at in range(0, len(due), _AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for id, entry in due[at : at + _AT_ONCE]:
                    group.create_task(self._try_to_ask_after(runs, id, entry))

    def _note(self, kind: Kind, id: str) -> None:
        entry = self._entries.get(id)
        if entry is None:
            entry = self._entries[id] = _Entry(kind, 0, 0)
        entry.next = time.monotonic() + self._quiet
        entry.pause = self._quiet

    async def _try_to_ask_after(self, runs: Runs | None, id: str, entry: _Entry) -> None:
        try:
            await self._ask_after(runs, id, entry)
        except (AwayError, StoreUnavailableError, ClosedError):
            raise
        except Exception:  # noqa: BLE001 - a fault with one execution must not keep the others from being asked after
            logger.exception("{} {} cannot be asked after, and will be again", entry.kind.title, id)
            entry.next = time.monotonic() + _LONGEST_PAUSE

    async def _ask_after(self, runs: Runs | None, id: str, entry: _Entry) -> None:
        standing = await self._ledger.standing(entry.kind, id)
        if standing is None:
            self._entries.pop(id, None)
            return
        now = time.monotonic()
        entry.pause = min(entry.pause * 2, _LONGEST_PAUSE)
        entry.next = now + entry.pause
        if standing.phase is not Phase.PENDING:
            entry.pending_since = 0
        elif not entry.pending_since:
            age = 0.0 if standing.recovered else max(0.0, time.time() - standing.created)
            entry.pending_since = now - age
        if self._patience and entry.pending_since:
            expiry = entry.pending_since + self._patience
            if expiry <= now:
                await self._ledger.expire(standing, self._expired(standing, runs))
                return
            entry.next = min(entry.next, expiry)
        if runs is None:
            if standing.phase is Phase.PENDING:
                await self._explain(standing, f"{WAITING}Temporal: {self._place} does not answer")
            return
        await self._ask(runs, standing, entry)

    async def _ask(self, runs: Runs, standing: Standing, entry: _Entry) -> None:
        state = await runs.state(standing.run)
        if state is None:
            await self._missed(standing, entry)
            return
        entry.misses = 0
        if state.ended is not None:
            await self._ledger.lost(standing, state.ended, state.reason)
            return
        queue = self._queues[standing.kind.name]
        nobody = standing.phase is not Phase.PAUSED and not self._polled.get(queue, 1)
        await self._explain(standing, f"{WAITING}a runner: none polls the queue {queue}" if nobody else "")

    async def _missed(self, standing: Standing, entry: _Entry) -> None:
        if standing.phase is Phase.PENDING or not standing.begun:
            # As far as anybody knows it has done nothing yet: it is started, again if need be.
            self._attend(standing.kind, standing.id)
            return
        entry.misses += 1
        if entry.misses >= _MISSES:
            reason = f"Temporal knows no run {standing.run}: it was removed there, or Temporal has lost its data"
            await self._ledger.lost(standing, Phase.FAILED, reason)
        else:
            entry.next = time.monotonic() + self._quiet

    async def _explain(self, standing: Standing, reason: str) -> None:
        mine = not standing.reason or standing.reason.startswith(WAITING)
        if mine and standing.reason != reason:
            await self._ledger.explain(standing, reason)

    def _expired(self, standing: Standing, runs: Runs | None) -> str:
        queue = self._queues[standing.kind.name]
        if runs is None:
            why = f"Temporal at {self._place} does not answer"
        elif self._polled.get(queue, 1):
            why = f"the runners of the queue {queue} are busy"
        else:
            why = f"no runner polls the queue {queue}"
        return f"no runner took it up within {self._patience:g} s: {why}"
