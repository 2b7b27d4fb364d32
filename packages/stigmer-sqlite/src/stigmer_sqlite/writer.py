"""The one thread that writes, and its group commit.

    submit → queue → [ job job job ] → COMMIT → deliver (event loop): changes to the feed, results to the waiting

Jobs that arrive while a commit is on its way to the disk wait for the next one and share it, so the cost of making
writes durable is divided among everyone who waits. Each job runs in a savepoint of its own: its failure is its own.
A failed commit fails the whole group, and nothing of the group is kept.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from loguru import logger

from stigmer_sqlite.errors import ClosedError, StoreUnavailableError
from stigmer_sqlite.failures import unavailable
from stigmer_sqlite.kinds import Kinds
from stigmer_sqlite.port import Change
from stigmer_sqlite.reading import SqliteReader
from stigmer_sqlite.work import finished
from stigmer_sqlite.writing import Journal, SqliteTransaction

T = TypeVar("T")

# Bounds how long the first of a group waits for the last.
_GROUP = 256


@dataclass(slots=True, eq=False)
class _Job:
    """Work waiting for its turn, then its outcome."""

    future: asyncio.Future[Any]
    write: Callable[[SqliteTransaction], object] | None = None
    read: Callable[[SqliteReader], object] | None = None
    result: object = None
    error: BaseException | None = None


class _GroupFailedError(Exception):
    """The storage failed: the database transaction cannot be committed."""


class Writer:
    """Runs jobs on the writing connection, one group after another."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        kinds: Kinds,
        *,
        sequence: int,
        publish: Callable[[Sequence[Change]], None],
    ) -> None:
        self._connection = connection
        self._kinds = kinds
        self._journal = Journal(sequence)
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = False
        self._finished: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a program that ends without closing its store must end all the same; commits are atomic anyway.
        self._thread = threading.Thread(target=self._run, name="stigmer-sqlite-writer", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[SqliteTransaction], T]) -> T:
        """Run the work in a transaction and return its result once that is durable."""
        return await self._submit(_Job(self._loop.create_future(), write=work))

    async def read(self, work: Callable[[SqliteReader], T]) -> T:
        """Run the work between groups: for a database in memory, which has no other connection."""
        return await self._submit(_Job(self._loop.create_future(), read=work))

    async def close(self) -> None:
        """Finish the waiting jobs and end the thread; the connection stays open. Again waits for the first close."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.shield(self._finished)

    async def _submit(self, job: _Job) -> Any:
        if self._closing:
            raise ClosedError("the store is closed")
        self._queue.put(job)
        return await job.future

    def _run(self) -> None:
        closing = False
        while not closing:
            jobs, closing = self._take()
            reads = [job for job in jobs if job.read is not None]
            changes = self._commit([job for job in jobs if job.write is not None])
            for job in reads:
                self._read(job)
            self._to_loop(self._deliver, jobs, changes)
        self._to_loop(self._finish)

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for a job and take those that have gathered meanwhile; True when none will come after."""
        jobs: list[_Job] = []
        try:
            while len(jobs) < _GROUP:
                job = self._queue.get(block=not jobs)
                if job is None:
                    return jobs, True
                # Nobody waits for a cancelled job that has not begun, so it never happens.
                if not job.future.cancelled():
                    jobs.append(job)
        except Empty:
            pass  # everything that has gathered is taken
        return jobs, False

    def _commit(self, jobs: list[_Job]) -> list[Change]:
        if not jobs:
            return []
        connection, journal = self._connection, self._journal
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._run_job(job)
            journal.write(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 # whatever it is, it must reach those who wait and not end the thread
            self._roll_back(jobs, error)
        return journal.committed()

    def _run_job(self, job: _Job) -> None:
        connection, journal = self._connection, self._journal
        mark = journal.mark()
        connection.execute("SAVEPOINT job")
        transaction = SqliteTransaction(connection, self._kinds, journal)
        try:
            assert job.write is not None  # noqa: S101 # only writes are committed
            job.result = finished(job.write(transaction))
        except BaseException as error:  # noqa: BLE001 # the caller's exception belongs to the caller, whatever it is
            job.error = error
        transaction.end()
        if journal.failed or not connection.in_transaction:
            raise _GroupFailedError from job.error
        if job.error is not None:
            connection.execute("ROLLBACK TO job")
            journal.rewind(mark)
        connection.execute("RELEASE job")

    def _roll_back(self, jobs: list[_Job], error: Exception) -> None:
        cause = error.__cause__ if isinstance(error, _GroupFailedError) else error
        logger.error("a commit of {} transactions failed: {}", len(jobs), cause)
        self._journal.abandon()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as worse:
            logger.error("rolling back failed: {}", worse)
        for job in jobs:
            job.error = _as_unavailable(cause)

    def _read(self, job: _Job) -> None:
        try:
            assert job.read is not None  # noqa: S101 # told apart in _run
            job.result = job.read(SqliteReader(self._connection, self._kinds))
        except BaseException as error:  # noqa: BLE001 # the caller's exception belongs to the caller, whatever it is
            job.error = error

    def _to_loop(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            logger.warning("the event loop ended before its store was closed")

    def _deliver(self, jobs: list[_Job], changes: list[Change]) -> None:
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

    def _finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)


def _as_unavailable(cause: BaseException | None) -> StoreUnavailableError:
    if isinstance(cause, StoreUnavailableError):
        found = StoreUnavailableError(*cause.args)
        found.__cause__ = cause.__cause__
    else:
        found = unavailable(cause, "commit") if isinstance(cause, Exception) else StoreUnavailableError("commit failed")
        found.__cause__ = cause
    return found
