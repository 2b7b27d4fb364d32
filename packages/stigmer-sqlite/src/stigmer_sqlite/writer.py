"""Group commit: whoever wants to write while a commit is on its way to the disk shares the next one.

    write → waiting → [ job job job ] → COMMIT (thread) → deliver: changes to the feed, results to the waiting

The jobs of a group run on the event loop's thread, and the failure of one is its own. Nearly all that fail have written
nothing yet. Where one has, the group is undone and run again, each job in a savepoint of its own: a savepoint for every
job would cost more than that. A job that is expected to fail so has one from the start. The commit, which waits for the
disk, runs on the one thread that is for that; so does a job that turns out to take long, by itself. Only one of the two
threads uses the connection at a time. A failed commit fails the whole group, and nothing of the group is kept.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, TypeVar

from loguru import logger

from stigmer_sqlite.allowance import Allowance, OverdueError
from stigmer_sqlite.connections import BUSY_TIMEOUT
from stigmer_sqlite.errors import ClosedError, StoreUnavailableError
from stigmer_sqlite.failures import is_code, unavailable
from stigmer_sqlite.helper import Helper
from stigmer_sqlite.kinds import Kinds
from stigmer_sqlite.port import Change
from stigmer_sqlite.work import finished
from stigmer_sqlite.writing import Journal, SqliteTransaction

T = TypeVar("T")

# Bounds how long the first of a group waits for the last, and how long the event loop is held up.
_GROUP = 256
_GATHER_SECONDS = 0.002
_GROUP_SECONDS = 0.004
_JOB_SECONDS = 0.004


@dataclass(slots=True, eq=False)
class _Job:
    """Work waiting for its turn, then its outcome."""

    work: Callable[[SqliteTransaction], object]
    future: asyncio.Future[Any]
    guarded: bool = False
    """Whether it gets a savepoint from the start."""
    long: bool = False
    result: object = None
    error: BaseException | None = None


@dataclass(slots=True)
class Tally:
    """What a writer has done since it began."""

    commits: int = 0
    failed_commits: int = 0
    transactions: int = 0
    """That were committed; several share a commit."""
    changes: int = 0
    """Records that they wrote."""
    commit_seconds: float = 0.0
    """How long it waited for commits."""
    fault: str = ""
    """Why the last commit failed; empty again once one succeeds."""
    fault_at: float = 0.0
    """When that was, by the monotonic clock."""


class _Unguarded(Exception):  # noqa: N818 # no fault, but the end of one way to run a group
    """A job without a savepoint has to be undone, and with it the group."""


class _GroupFailedError(Exception):
    """The storage failed: the database transaction cannot be committed."""


class Writer:
    """Runs jobs on the writing connection, one group after another. To be used on the event loop's thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        kinds: Kinds,
        *,
        sequence: int,
        publish: Callable[[Sequence[Change]], None],
        inline: bool,
    ) -> None:
        """Take over the connection; `inline`: everything runs on the event loop's thread, for a database in memory."""
        self._connection = connection
        self._kinds = kinds
        # Waiting for somebody outside, such as a backup, is for the thread.
        connection.execute("PRAGMA busy_timeout = 0")
        self._journal = Journal(sequence)
        self._allowance = Allowance()
        self._allowance.watch(connection)
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._closing = False
        self._expected = 0
        self._guarded = 0
        """How many of the next jobs get a savepoint."""
        self._gathering: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._helper = None if inline else Helper("stigmer-sqlite-writer")
        self.tally = Tally()

    @property
    def waiting(self) -> int:
        """How many transactions wait for their turn."""
        return len(self._waiting)

    async def write(self, work: Callable[[SqliteTransaction], T], *, guarded: bool = False) -> T:
        """Run the work in a transaction and return its result once that is durable.

        `guarded`: it will probably fail after it has written, so it gets a savepoint at once.
        """
        if self._closing:
            raise ClosedError("the store is closed")
        job = _Job(work, self._loop.create_future(), guarded)
        self._waiting.append(job)
        if self._idle.is_set():
            # Not at once: whoever else becomes ready in this round of the event loop joins the group.
            self._idle.clear()
            self._expected = 1
            self._loop.call_soon(self._begin)
        elif self._gathering is not None and len(self._waiting) >= self._expected:
            self._gathering.cancel()
            self._gathering = None
            self._loop.call_soon(self._begin)
        return await job.future

    async def close(self) -> None:
        """Finish the waiting jobs and end the thread; the connection stays open. Again is harmless."""
        self._closing = True
        await self._idle.wait()
        if self._helper is not None:
            self._helper.end()
            self._helper = None

    def _gather(self, delivered: int) -> None:
        """Begin the next group once as many jobs wait as writers were seen, or when that takes too long.

        Whoever was served just now is likely to be back at once. A lone writer is never waited for.
        """
        self._expected = delivered + len(self._waiting)
        if self._expected == 1 or self._closing or self._helper is None:
            self._begin()
        else:
            self._gathering = self._loop.call_later(_GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._begin()

    def _begin(self) -> None:
        """Run the next group, or rest."""
        # Nobody waits for a cancelled job that has not begun, so it never happens.
        while self._waiting and self._waiting[0].future.cancelled():
            self._waiting.popleft()
        if not self._waiting:
            self._idle.set()
        elif self._waiting[0].long:
            job = self._waiting.popleft()
            self._elsewhere(lambda: self._run_long(job), [job])
        else:
            jobs, to_commit = self._run_group()
            if to_commit:
                self._elsewhere(lambda: self._commit(jobs), jobs)
            else:
                self._deliver(jobs, [])
                self._loop.call_soon(self._begin)

    def _run_group(self) -> tuple[list[_Job], bool]:
        """Run jobs until the group is full; True: the database transaction is open and waits for its commit."""
        jobs: list[_Job] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            return self._refuse_group(error), False
        try:
            until = perf_counter() + _GROUP_SECONDS
            while self._waiting and not self._waiting[0].long and len(jobs) < _GROUP and perf_counter() < until:
                job = self._waiting.popleft()
                if job.future.cancelled():
                    continue
                jobs.append(job)
                self._allowance.grant(_JOB_SECONDS if self._helper else math.inf)
                try:
                    self._run_job(job, guarded=job.guarded or self._guarded > 0)
                finally:
                    self._allowance.revoke()
                self._guarded = max(self._guarded - 1, 0)
                if job.long:
                    self._waiting.appendleft(jobs.pop())
            if self._journal.write(self._connection):
                return jobs, True
            self._connection.execute("ROLLBACK")
        except _Unguarded:
            return self._undo_group(jobs), False
        except Exception as error:  # noqa: BLE001 # whatever it is, those who wait must hear of it
            self._roll_back(jobs, error)
        return jobs, False

    def _undo_group(self, jobs: list[_Job]) -> list[_Job]:
        """Have the jobs run again, each so that it can be undone by itself; none of them is done then."""
        self._journal.abandon()
        self._connection.execute("ROLLBACK")
        for job in jobs:
            job.result = job.error = None
        self._waiting.extendleft(reversed(jobs))
        self._guarded = len(jobs)
        return []

    def _refuse_group(self, error: sqlite3.Error) -> list[_Job]:
        """Return the jobs that fail because no database transaction could begin."""
        if is_code(error, sqlite3.SQLITE_BUSY):
            self._waiting[0].long = True  # somebody outside writes; the thread can wait for that
            return []
        jobs = list(self._waiting)
        self._waiting.clear()
        self._roll_back(jobs, error)
        return jobs

    def _run_job(self, job: _Job, *, guarded: bool) -> None:
        connection, journal = self._connection, self._journal
        mark, written = journal.mark(), connection.total_changes
        if guarded:
            connection.execute("SAVEPOINT job")
        transaction = SqliteTransaction(connection, self._kinds, journal, self._allowance)
        job.long = False
        self._allowance.renew()
        try:
            job.result = finished(job.work(transaction))
        except OverdueError:
            job.long = True
        except BaseException as error:  # noqa: BLE001 # the caller's exception belongs to the caller, whatever it is
            job.error = error
        transaction.end()
        job.long = job.long or self._allowance.spent
        if journal.failed or not connection.in_transaction:
            raise _GroupFailedError from job.error
        failed = job.long or job.error is not None
        if failed and not guarded and connection.total_changes != written:
            raise _Unguarded
        if failed:
            journal.rewind(mark)
        if guarded:
            if failed:
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")

    def _roll_back(self, jobs: list[_Job], error: Exception) -> None:
        cause = error.__cause__ if isinstance(error, _GroupFailedError) else error
        logger.error("a commit of {} transactions failed: {}", len(jobs), cause)
        self.tally.failed_commits += 1
        self.tally.fault = str(_as_unavailable(cause))
        self.tally.fault_at = monotonic()
        self._journal.abandon()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as worse:
            logger.error("rolling back failed: {}", worse)
        for job in jobs:
            job.error = _as_unavailable(cause)

    def _deliver(self, jobs: list[_Job], changes: Sequence[Change]) -> None:
        self._publish(changes)
        for job in jobs:
            if job.future.done():
                continue  # cancelled while it ran; what it wrote stays written
            if job.error is None:
                job.future.set_result(job.result)
            elif isinstance(job.error, StopIteration):
                job.future.set_exception(RuntimeError(f"work raised {job.error!r}"))
            else:
                job.future.set_exception(job.error)

    def _elsewhere(self, task: Callable[[], None], jobs: list[_Job]) -> None:
        def then() -> None:
            changes = self._journal.committed()
            self.tally.changes += len(changes)
            self._deliver(jobs, changes)
            self._gather(len(jobs))

        if self._helper is None:
            task()
            self._loop.call_soon(then)
        else:
            # A lone writer has the commit soonest if the loop waits for it; others come while the loop goes on.
            self._helper.run(task, then, wait=self._expected <= 1)

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            self._commit_now(len(jobs))
        except Exception as error:  # noqa: BLE001 # whatever it is, those who wait must hear of it
            self._roll_back(jobs, error)

    def _commit_now(self, transactions: int) -> None:
        started = perf_counter()
        self._connection.execute("COMMIT")
        tally = self.tally
        tally.commits += 1
        tally.transactions += transactions
        tally.commit_seconds += perf_counter() - started
        tally.fault = ""

    def _run_long(self, job: _Job) -> None:
        connection = self._connection
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            connection.execute("BEGIN IMMEDIATE")
            self._run_job(job, guarded=True)
            self._journal.write(connection)
            self._commit_now(1)
        except Exception as error:  # noqa: BLE001 # whatever it is, those who wait must hear of it
            self._roll_back([job], error)
        finally:
            connection.execute("PRAGMA busy_timeout = 0")


def _as_unavailable(cause: BaseException | None) -> StoreUnavailableError:
    if isinstance(cause, StoreUnavailableError):
        found = StoreUnavailableError(*cause.args)
        found.__cause__ = cause.__cause__
    else:
        found = unavailable(cause, "commit") if isinstance(cause, Exception) else StoreUnavailableError("commit failed")
        found.__cause__ = cause
    return found
