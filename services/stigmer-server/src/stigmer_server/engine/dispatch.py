"""Carries out what executions need, while Temporal is there: starts, signals, stops, and word to whoever waits.

Everything about one execution is done by one task at a time and in order, different executions by several at once. A
start comes before what follows it, because nothing can be said to a run that is not there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from loguru import logger
from stigmer_sqlite.errors import ClosedError, StoreUnavailableError

from stigmer_server.engine.port import AwayError, Connect, Ledger, RefusedByTemporalError, Runs, Timers, Work
from stigmer_server.engine.watch import Watch
from stigmer_server.errors import ServerError
from stigmer_server.executions import PAUSE, RESUME
from stigmer_server.kinds import Kind
from stigmer_server.outbox import Action, Delivery
from stigmer_server.transitions import UNENDED, Phase

_WORKERS = 16
_SWEEP_SECONDS = 30.0
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 15.0
_FORGET_SECONDS = 600.0


class TemporalEngine:
    """Temporal, which may come late, go away and come back.

    Args:
        connect: Reaches Temporal.
        place: Where that is, for people.
        queues: Name of a kind of executions → task queue of its runners.
        watch_seconds: How long a run may be quiet before it is asked after.
        pending_seconds: How long an execution may wait for a runner; 0: for ever.
        joining: Has what is done in its block belong to a place in a trace, which may be none.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        place: str,
        queues: Mapping[str, str],
        watch_seconds: float = 5.0,
        pending_seconds: float = 0.0,
        joining: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._connect = connect
        self._place = place
        self._joining = joining
        self._queues = queues
        self._limits = (watch_seconds, pending_seconds)
        self._connected = asyncio.Event()
        self._lanes = _Lanes()
        self._started: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._runs: Runs | None = None

    @property
    def connected(self) -> bool:
        """Whether Temporal answered when last asked."""
        return self._connected.is_set()

    async def pollers(self, queue: str) -> int:
        """Return how many workers poll a task queue. Raises: AwayError."""
        if self._runs is None:
            raise AwayError(f"Temporal at {self._place} is away")
        return await self._runs.pollers(queue)

    async def checkpoint(self, run: str) -> Any:
        """See `Engine`."""
        if self._runs is None:
            raise AwayError(f"Temporal at {self._place} is away")
        return await self._runs.checkpoint(run)

    def start(self, ledger: Ledger, timers: Timers) -> None:
        """Begin to look for Temporal; returns at once."""
        watch_seconds, pending_seconds = self._limits
        watch = Watch(
            ledger, self.attend, self._queues, place=self._place, quiet=watch_seconds, patience=pending_seconds
        )
        self._tasks = [
            asyncio.create_task(self._run(ledger, timers, watch), name="engine"),
            asyncio.create_task(watch.follow(), name="watch over runs"),
        ]

    async def close(self) -> None:
        """Stop. Runs go on without the server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def attend(self, kind: Kind, id: str) -> None:
        """See `Engine`. While Temporal is away nothing is kept here: what is to be done is found again."""
        self._started.discard(id)
        if self.connected:
            self._lanes.put(kind, id)

    async def _run(self, ledger: Ledger, timers: Timers, watch: Watch) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                try:
                    runs = await self._connect()
                    logger.info("connected to Temporal at {}", self._place)
                    delay = _FIRST_DELAY
                    await self._serve(runs, ledger, timers, watch)
                except* AwayError as group:
                    self._runs = None
                    self._connected.clear()
                    level = "WARNING" if delay == _FIRST_DELAY else "DEBUG"
                    logger.log(level, "Temporal at {} is away, executions wait: {}", self._place, _first(group))
                await watch.look(None)
            except Exception:  # noqa: BLE001 - a fault in one round must not end the engine
                self._runs = None
                self._connected.clear()
                logger.exception("the engine stumbled, and goes on")
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not cryptography
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _serve(self, runs: Runs, ledger: Ledger, timers: Timers, watch: Watch) -> None:
        """Do what is asked, and look for what was not, until Temporal no longer answers."""
        self._lanes = _Lanes()
        self._runs = runs
        self._connected.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep(ledger))
            group.create_task(watch.run(runs))
            group.create_task(timers.keep(runs))
            for _ in range(_WORKERS):
                group.create_task(self._work(runs, ledger))

    async def _sweep(self, ledger: Ledger) -> None:
        """Look for what is to be done, now and every half minute."""
        forgotten = 0.0
        while True:
            waiting: set[str] = set()
            async for kind, id in ledger.waiting():
                waiting.add(id)
                if id not in self._started:
                    self._lanes.put(kind, id)
            self._started &= waiting
            if time.monotonic() - forgotten > _FORGET_SECONDS:
                forgotten = time.monotonic()
                await ledger.forget()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _work(self, runs: Runs, ledger: Ledger) -> None:
        while True:
            kind, id = await self._lanes.get()
            try:
                await self._attend(runs, ledger, kind, id)
            except (AwayError, StoreUnavailableError, ClosedError):
                raise
            except Exception:  # noqa: BLE001 - a fault with one execution must not hold up all others
                logger.exception("{} {} cannot be attended to, and will be tried again", kind.title, id)
            finally:
                self._lanes.release(kind, id)

    async def _attend(self, runs: Runs, ledger: Ledger, kind: Kind, id: str) -> None:
        while True:
            work = await ledger.work(kind, id)
            if work.phase is Phase.PENDING and id not in self._started:
                with self._joining(_trace_of_start(work)):
                    await self._start(runs, ledger, work)
            for delivery in work.deliveries:
                with self._joining(delivery.trace):
                    await self._deliver(runs, ledger, work, delivery)
                await ledger.done(delivery)
            if not work.deliveries:
                return

    async def _start(self, runs: Runs, ledger: Ledger, work: Work) -> bool:
        """Make sure that the run was started; False when it has ended, or cannot be."""
        try:
            goes_on = await runs.start(work, self._queues[work.kind.name])
        except RefusedByTemporalError as error:
            logger.error("{} {} cannot be started: {}", work.kind.title, work.id, error)
            await ledger.start_failed(work, f"the run could not be started: {error}")
            return False
        self._started.add(work.id)
        return goes_on

    async def _deliver(self, runs: Runs, ledger: Ledger, work: Work, delivery: Delivery) -> None:
        try:
            match delivery.action:
                case Action.START:
                    pass  # it came before everything else
                case Action.CANCEL:
                    await runs.cancel(delivery.run, delivery.payload)
                case Action.TERMINATE:
                    await runs.terminate(delivery.run, delivery.payload)
                case Action.COMPLETE:
                    await runs.tell(await ledger.outcome(delivery))
                case Action.SIGNAL:
                    await self._signal(runs, ledger, work, delivery)
        except (RefusedByTemporalError, ServerError) as error:
            # It would be refused again, and must not stand in the way of what comes after it.
            what = delivery.name or delivery.action.value
            logger.error("{} of {} {} cannot be delivered: {}", what, work.kind.title, work.id, error)

    async def _signal(self, runs: Runs, ledger: Ledger, work: Work, delivery: Delivery) -> None:
        if work.phase not in UNENDED:
            return
        if delivery.name in (PAUSE, RESUME) and delivery.run != work.run:
            return  # meant for a run that a recovery has replaced
        if await runs.signal(work.run, delivery.name, delivery.payload, delivery.id):
            return
        if await self._start(runs, ledger, work) and await runs.signal(
            work.run, delivery.name, delivery.payload, delivery.id
        ):
            return
        logger.warning("{} {} ended before its {} arrived", work.kind.title, work.id, delivery.name)


def _trace_of_start(work: Work) -> str:
    return next((delivery.trace for delivery in work.deliveries if delivery.action is Action.START), "")


def _first(group: BaseExceptionGroup[AwayError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Lanes:
    """Executions that need attention, each once, and never the same one twice at a time."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Kind, str]] = asyncio.Queue()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()

    def put(self, kind: Kind, id: str) -> None:
        """Have the execution looked at, once more if it is being looked at just now."""
        if id in self._busy:
            self._again.add(id)
        elif id not in self._queued:
            self._queued.add(id)
            self._queue.put_nowait((kind, id))

    async def get(self) -> tuple[Kind, str]:
        """Wait for the next execution, and keep it to oneself until it is released."""
        kind, id = await self._queue.get()
        self._queued.discard(id)
        self._busy.add(id)
        return kind, id

    def release(self, kind: Kind, id: str) -> None:
        """Give the execution back."""
        self._busy.discard(id)
        if id in self._again:
            self._again.discard(id)
            self.put(kind, id)
