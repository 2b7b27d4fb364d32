"""What the engine asks of Temporal, counted on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from typing import Any, TypeVar

from stigmer_server.engine.port import AwayError, Connect, Outcome, RefusedByTemporalError, Runs, RunState, Timer, Work

T = TypeVar("T")


class EngineMetrics:
    """How often Temporal was asked for what, and how that ended."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        """By what was asked (`start`, `signal` …) and how it ended: `done`, `known` (there was such a run before),
        `gone` (there is no such run), `away` or `refused`."""

    def counting(self, connect: Connect) -> Connect:
        """Return what reaches Temporal like `connect`, and counts."""

        async def connected() -> Runs:
            return _CountedRuns(await self.ended("connect", connect()), self)

        return connected

    async def ended(self, what: str, asking: Awaitable[T], *, otherwise: str = "") -> T:
        """Return what an answer says, counted; one that says False is counted as `otherwise`."""
        try:
            answer = await asking
        except AwayError:
            self.asked[what, "away"] += 1
            raise
        except RefusedByTemporalError:
            self.asked[what, "refused"] += 1
            raise
        said_no: object = answer
        self.asked[what, otherwise if otherwise and said_no is False else "done"] += 1
        return answer


class _CountedRuns:
    """Runs that are counted."""

    def __init__(self, runs: Runs, metrics: EngineMetrics) -> None:
        self._runs = runs
        self._ended = metrics.ended

    async def start(self, work: Work, queue: str) -> bool:
        return await self._ended("start", self._runs.start(work, queue), otherwise="known")

    async def signal(self, run: str, name: str, payload: Any, id: str) -> bool:
        return await self._ended("signal", self._runs.signal(run, name, payload, id), otherwise="gone")

    async def cancel(self, run: str, reason: str) -> None:
        await self._ended("cancel", self._runs.cancel(run, reason))

    async def terminate(self, run: str, reason: str) -> None:
        await self._ended("terminate", self._runs.terminate(run, reason))

    async def tell(self, outcome: Outcome) -> None:
        await self._ended("complete", self._runs.tell(outcome))

    async def state(self, run: str) -> RunState | None:
        return await self._ended("describe", self._runs.state(run))

    async def checkpoint(self, run: str) -> Any:
        return await self._ended("query", self._runs.checkpoint(run))

    async def pollers(self, queue: str) -> int:
        return await self._runs.pollers(queue)

    async def keep_timer(self, timer: Timer, queue: str) -> None:
        await self._ended("schedule", self._runs.keep_timer(timer, queue))

    async def drop_timer(self, workflow: str) -> None:
        await self._ended("unschedule", self._runs.drop_timer(workflow))

    async def start_later(self, workflow: str, org: str, key: str, seconds: float, queue: str) -> None:
        await self._ended("delay", self._runs.start_later(workflow, org, key, seconds, queue))
