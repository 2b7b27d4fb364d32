"""What the server wants of an engine, what the engine must be told of executions, and what it needs of Temporal.

An execution is started by its id alone; its runner asks the server for everything else. Everything an engine does may
be done again without harm, and is kept in the database until it is known to be done. That is how it makes up for every
way of losing a word: Temporal away, a server killed after its commit, a call that timed out but was done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.outbox import Delivery
from stigmer_server.transitions import Phase


class AwayError(Exception):
    """Temporal does not answer, or not yet. Whether it did what it was asked is not known."""


class RefusedByTemporalError(Exception):
    """Temporal says no, and would say so again."""


class Engine(Protocol):
    """Sees to it that what executions need is done."""

    def attend(self, kind: Kind, id: str) -> None:
        """Look at an execution for which something is to be done. Neither waits nor fails.

        What cannot be done now is done later, and what is not told is found after a while.
        """
        ...

    async def checkpoint(self, run: str) -> Any:
        """Return how far a run of a workflow got, as its runner writes it down; None: nobody knows the run.

        Raises:
            AwayError: Temporal or every runner is away.
            RefusedByTemporalError: It cannot be told.
        """
        ...


class NoEngine:
    """Leaves everything for a server with an engine to do."""

    def attend(self, kind: Kind, id: str) -> None:
        """Do nothing."""

    async def checkpoint(self, run: str) -> Any:
        """Raise: AwayError."""
        raise AwayError(f"this server runs nothing, {run} neither")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done for one execution."""

    kind: Kind
    id: str
    org: str
    run: str
    """Id of the Temporal workflow that runs it now."""
    phase: Phase | None
    """None when the execution was deleted."""
    deliveries: tuple[Delivery, ...]
    """In order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an execution that has not ended stands."""

    kind: Kind
    id: str
    run: str
    phase: Phase
    reason: str
    created: float
    """Seconds since the epoch."""
    recovered: bool
    begun: bool
    """Whether a runner has taken it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What whoever waits for an execution is told of its end."""

    token: bytes
    execution: Message | None
    """The execution as anybody may read it, if it completed."""
    phase: Phase
    error: str
    """Why there is no execution, for people."""
    details: dict[str, Any]
    """The same for programs."""

    def __repr__(self) -> str:
        return f"Outcome({self.phase})"


class Ledger(Protocol):
    """The executions in the database."""

    def waiting(self) -> AsyncIterator[tuple[Kind, str]]:
        """Yield every execution that is to be started or has something due; some may come twice."""
        ...

    async def work(self, kind: Kind, id: str) -> Work:
        """Return what is to be done for an execution."""
        ...

    async def done(self, delivery: Delivery) -> None:
        """Note that it was done."""
        ...

    async def outcome(self, delivery: Delivery) -> Outcome:
        """Return what is to be told by a delivery that completes a callback.

        Raises:
            UnsealError: Its token cannot be opened.
        """
        ...

    async def start_failed(self, work: Work, reason: str) -> None:
        """Record that an execution cannot be started, ever."""
        ...

    async def standing(self, kind: Kind, id: str) -> Standing | None:
        """Return where an execution stands; None when it has ended or is gone."""
        ...

    def unfinished(self) -> AsyncIterator[tuple[Kind, str]]:
        """Yield every execution that has not ended."""
        ...

    def changes(self) -> AsyncIterator[tuple[Kind, str, bool]]:
        """Yield executions as they change, and whether they still exist. Registered when this returns."""
        ...

    async def lost(self, standing: Standing, phase: Phase, reason: str) -> None:
        """End an execution whose run has ended without a word, unless it is no longer where it stood."""
        ...

    async def expire(self, standing: Standing, reason: str) -> None:
        """End an execution that nobody took up in time, and whatever run it has."""
        ...

    async def explain(self, standing: Standing, reason: str) -> None:
        """Say what an execution waits for; empty: nothing any more."""
        ...

    async def forget(self) -> None:
        """Remove what needs to be known no longer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What Temporal says of a run."""

    ended: Phase | None = None
    """The phase that its end amounts to; None while it goes on."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """What time starts of a workflow."""

    workflow: str
    """Its id."""
    org: str
    cron: str
    every: float
    """Seconds."""
    paused: bool
    reason: str


class Timers(Protocol):
    """What Temporal keeps of schedules; the server keeps it in agreement with its own."""

    async def keep(self, runs: Runs) -> None:
        """Tell Temporal of every schedule, and then of every change of one. Raises: AwayError."""
        ...


class Runs(Protocol):
    """Runs on Temporal. Every method raises AwayError when the answer is not had, done or not."""

    async def start(self, work: Work, queue: str) -> bool:
        """Start the run unless there is, or was, one of its id. False: there was one, and it has ended.

        Raises:
            RefusedByTemporalError: It cannot be started.
        """
        ...

    async def signal(self, run: str, name: str, payload: Any, id: str) -> bool:
        """Give the run a signal; False when no such run goes on.

        Raises:
            RefusedByTemporalError: It cannot be given to any run.
        """
        ...

    async def cancel(self, run: str, reason: str) -> None:
        """Ask the run to stop; none that goes on is no fault."""
        ...

    async def terminate(self, run: str, reason: str) -> None:
        """End the run at once; none that goes on is no fault."""
        ...

    async def tell(self, outcome: Outcome) -> None:
        """Complete the activity whose token it is; one that nobody waits for any more is no fault.

        Raises:
            RefusedByTemporalError: The token is none.
        """
        ...

    async def state(self, run: str) -> RunState | None:
        """Return what has become of the run; None: Temporal does not know it."""
        ...

    async def checkpoint(self, run: str) -> Any:
        """Return how far the run got, as its runner writes it down: `content` and `positions`; None: no such run.

        Raises:
            RefusedByTemporalError: It cannot be told.
        """
        ...

    async def pollers(self, queue: str) -> int:
        """Return how many workers have asked for runs of the queue lately."""
        ...

    async def keep_timer(self, timer: Timer, queue: str) -> None:
        """Have executions of a workflow started as a timer says, and as no other says that was kept for it before.

        Raises:
            RefusedByTemporalError: It cannot be kept.
        """
        ...

    async def drop_timer(self, workflow: str) -> None:
        """Have time start no more executions of a workflow; none that is kept is no fault."""
        ...

    async def start_later(self, workflow: str, org: str, key: str, seconds: float, queue: str) -> None:
        """Have an execution of a workflow started after a while, once for a key.

        Raises:
            RefusedByTemporalError: It cannot be.
        """
        ...


Connect = Callable[[], Awaitable[Runs]]
"""Reaches Temporal. Raises: AwayError."""
