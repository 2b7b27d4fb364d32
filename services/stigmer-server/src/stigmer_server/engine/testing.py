"""Temporal as far as the server sees it, in memory, and ways of losing words to it: for tests that lose many.

What it keeps is what Temporal keeps: a run for each id, started once, and the signals and ends that it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stigmer_server.engine.port import AwayError, Outcome, Runs, RunState, Timer, Work
from stigmer_server.transitions import Phase


@dataclass(slots=True, kw_only=True)
class MemoryRun:
    """A run."""

    execution: str
    queue: str
    state: RunState = field(default_factory=RunState)
    signals: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    """Name and payload of each, as often as they came."""
    cancelled: list[str] = field(default_factory=list[str])
    """Reasons."""
    checkpoint: Any = None
    """How far it is, as its runner would write it down."""
    starts: int = 1
    """How often it was asked for."""

    def heard(self) -> list[tuple[str, Any]]:
        """Return the signals as a run sees them that knows each by its id."""
        seen: set[str] = set()
        return [(name, load) for name, load in self.signals if not (load["id"] in seen or seen.add(load["id"]))]


class MemoryRuns:
    """See `Runs`. Never away by itself."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}
        self.told: dict[bytes, list[Outcome]] = {}
        """Token of each activity that was completed, to what it was told; only the first is heard."""
        self.workers = 1
        self.timers: dict[str, Timer] = {}
        """By workflow."""
        self.later: dict[tuple[str, str], float] = {}
        """Workflow and key of what is to be started later, and the seconds until then."""

    async def start(self, work: Work, queue: str) -> bool:
        """See `Runs`."""
        found = self.runs.get(work.run)
        if found is None:
            self.runs[work.run] = MemoryRun(execution=work.id, queue=queue)
            return True
        found.starts += 1
        return found.state.ended is None

    async def signal(self, run: str, name: str, payload: Any, id: str) -> bool:
        """See `Runs`."""
        del id
        found = self._open(run)
        if found is None:
            return False
        found.signals.append((name, payload))
        return True

    async def cancel(self, run: str, reason: str) -> None:
        """See `Runs`."""
        if (found := self._open(run)) is not None:
            found.cancelled.append(reason)

    async def terminate(self, run: str, reason: str) -> None:
        """See `Runs`."""
        if (found := self._open(run)) is not None:
            found.state = RunState(ended=Phase.TERMINATED, reason=reason)

    async def tell(self, outcome: Outcome) -> None:
        """See `Runs`."""
        self.told.setdefault(outcome.token, []).append(outcome)

    async def state(self, run: str) -> RunState | None:
        """See `Runs`."""
        found = self.runs.get(run)
        return None if found is None else found.state

    async def checkpoint(self, run: str) -> Any:
        """See `Runs`."""
        found = self.runs.get(run)
        return None if found is None else found.checkpoint

    async def pollers(self, queue: str) -> int:
        """See `Runs`."""
        del queue
        return self.workers

    async def keep_timer(self, timer: Timer, queue: str) -> None:
        """See `Runs`."""
        del queue
        self.timers[timer.workflow] = timer

    async def drop_timer(self, workflow: str) -> None:
        """See `Runs`."""
        self.timers.pop(workflow, None)

    async def start_later(self, workflow: str, org: str, key: str, seconds: float, queue: str) -> None:
        """See `Runs`."""
        del org, queue
        self.later.setdefault((workflow, key), seconds)

    def _open(self, run: str) -> MemoryRun | None:
        found = self.runs.get(run)
        return found if found is not None and found.state.ended is None else None


class FaultyRuns:
    """Runs behind a line that loses words: `before` and `after` are called around what each call does.

    Either may raise: AwayError in `before` is a request that never arrived, in `after` one that was done and is
    reported as a timeout. Anything else stands for the death of the server there.
    """

    def __init__(self, runs: Runs, *, before: Callable[[str], None], after: Callable[[str], None]) -> None:
        self._runs = runs
        self._before = before
        self._after = after

    async def start(self, work: Work, queue: str) -> bool:
        """See `Runs`."""
        self._before("start")
        result = await self._runs.start(work, queue)
        self._after("start")
        return result

    async def signal(self, run: str, name: str, payload: Any, id: str) -> bool:
        """See `Runs`."""
        self._before("signal")
        result = await self._runs.signal(run, name, payload, id)
        self._after("signal")
        return result

    async def cancel(self, run: str, reason: str) -> None:
        """See `Runs`."""
        self._before("cancel")
        await self._runs.cancel(run, reason)
        self._after("cancel")

    async def terminate(self, run: str, reason: str) -> None:
        """See `Runs`."""
        self._before("terminate")
        await self._runs.terminate(run, reason)
        self._after("terminate")

    async def tell(self, outcome: Outcome) -> None:
        """See `Runs`."""
        self._before("tell")
        await self._runs.tell(outcome)
        self._after("tell")

    async def state(self, run: str) -> RunState | None:
        """See `Runs`."""
        return await self._runs.state(run)

    async def checkpoint(self, run: str) -> Any:
        """See `Runs`."""
        return await self._runs.checkpoint(run)

    async def pollers(self, queue: str) -> int:
        """See `Runs`."""
        return await self._runs.pollers(queue)

    async def keep_timer(self, timer: Timer, queue: str) -> None:
        """See `Runs`."""
        self._before("keep_timer")
        await self._runs.keep_timer(timer, queue)
        self._after("keep_timer")

    async def drop_timer(self, workflow: str) -> None:
        """See `Runs`."""
        self._before("drop_timer")
        await self._runs.drop_timer(workflow)
        self._after("drop_timer")

    async def start_later(self, workflow: str, org: str, key: str, seconds: float, queue: str) -> None:
        """See `Runs`."""
        self._before("start_later")
        await self._runs.start_later(workflow, org, key, seconds, queue)
        self._after("start_later")


def lost() -> AwayError:
    """Return the error of a call whose answer never came."""
    return AwayError("the line was cut")
