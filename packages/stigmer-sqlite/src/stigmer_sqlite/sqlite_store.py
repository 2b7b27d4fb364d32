"""`ResourceStore` on SQLite, in a file or in memory.

Short work runs on the event loop's thread (allowance.py tells why): a read takes ten microseconds there, and with a log
beside the file it never waits for the writer. What takes longer is moved to the reading threads (readers.py) or the
writing thread (writer.py). A database in memory has one connection and no threads.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from stigmer_sqlite.allowance import Allowance, OverdueError
from stigmer_sqlite.connections import open_reader, open_writer, use_wal
from stigmer_sqlite.errors import ClosedError, StoreUnavailableError
from stigmer_sqlite.failures import translated
from stigmer_sqlite.feed import Feed
from stigmer_sqlite.kinds import Kinds
from stigmer_sqlite.ownership import Ownership
from stigmer_sqlite.port import (
    Archive,
    Change,
    Changes,
    Encoding,
    HistoryEntry,
    KindSchema,
    Page,
    Query,
    Reader,
    Record,
    Transaction,
)
from stigmer_sqlite.readers import Readers
from stigmer_sqlite.reading import SqliteReader
from stigmer_sqlite.records import check_compaction
from stigmer_sqlite.schema import bring_up_to_date, check_supported
from stigmer_sqlite.writer import Writer

T = TypeVar("T")

MEMORY = ":memory:"
# How long a list or history may hold up the event loop before it moves to a reading thread.
_NEAR_SECONDS = 0.002


@dataclass(slots=True)
class _Opened:
    """What opening a database yields."""

    writer: sqlite3.Connection
    sequence: int
    identity: str
    ownership: Ownership | None = None
    near: sqlite3.Connection | None = None
    readers: Readers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """How a store does; the counts begin when it is opened."""

    commits: int
    failed_commits: int
    transactions: int
    """That were committed; several share a commit."""
    changes: int
    """Records that they wrote or removed."""
    commit_seconds: float
    """How long it waited for commits, in all."""
    waiting: int
    """Transactions that wait for their turn now."""
    fault: str
    """Why the last commit failed; empty once one succeeds."""
    fault_at: float
    """When that was, by the monotonic clock."""
    sequence: int
    """The newest change."""
    watches: int
    bytes: int
    """Size of the database file; 0 for one in memory."""
    log_bytes: int
    """Size of the log beside it."""


class SqliteStore:
    """A `ResourceStore` in one SQLite database, which it alone has open. Made by `open`; an async context manager."""

    def __init__(self, opened: _Opened, kinds: Kinds) -> None:
        self._kinds = kinds
        self._ownership = opened.ownership
        self._near_connection = opened.near or opened.writer
        self._allowance = Allowance()
        self._near = SqliteReader(self._near_connection, kinds, self._allowance)
        self._readers = opened.readers
        self._writer_connection = opened.writer
        self._identity = opened.identity
        self._feed = Feed(head=opened.sequence, read=self._read_changes)
        self._writer = Writer(
            opened.writer, kinds, sequence=opened.sequence, publish=self._feed.publish, inline=opened.near is None
        )
        if opened.near is not None:
            self._allowance.watch(opened.near)
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: str | Path, schemas: Sequence[KindSchema], *, readers: int = 2) -> SqliteStore:
        """Open the database, creating it and its folder when missing, and bring its schema up to date.

        Args:
            path: A file, or ":memory:" for a database that ends with the store.
            schemas: Every kind the store is to know; their declared indexes are built or dropped as needed.
            readers: How many lists and histories may be read at once.

        Raises:
            InUseError: The database is open elsewhere; names the holder.
            UnsupportedSchemaError: Written by a newer version or by something else; left untouched.
            InvalidSchemaError: A schema is malformed, or the stored records contradict it.
            StoreUnavailableError: The file cannot be opened or written.
        """
        if readers < 1:
            raise ValueError("a store needs at least one reader")
        kinds = Kinds(schemas)
        file = None if str(path) == MEMORY else Path(path)
        opening = asyncio.ensure_future(asyncio.to_thread(_open, file, kinds, readers))
        try:
            opened = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be stopped; what it opens must not stay open.
            opening.add_done_callback(_close_unused)
            raise
        return cls(opened, kinds)

    async def transact(self, work: Callable[[Transaction], T], *, tentative: bool = False) -> T:
        """As `ResourceStore.transact`."""
        return await self._writer.write(work, guarded=tentative)

    async def read(self, work: Callable[[Reader], T]) -> T:
        """As `ResourceStore.read`."""
        return await self._read(lambda reader: reader.at_once(work))

    async def get(self, kind: str, id: str) -> Record:
        """As `ResourceStore.get`."""
        self._check_open()
        record = self._near.head(kind, id)
        return await self._read(lambda reader: reader.get(kind, id)) if record.lengths else record

    async def head(self, kind: str, id: str) -> Record:
        """As `ResourceStore.head`."""
        self._check_open()
        return self._near.head(kind, id)

    async def encoding(self, kind: str, id: str) -> Encoding:
        """As `ResourceStore.encoding`."""
        self._check_open()
        head = self._near.encoding_of_head(kind, id)
        return await self._read(lambda reader: reader.encoding(kind, id)) if head.lengths else head

    async def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """As `ResourceStore.find`."""
        self._check_open()
        record = self._near.found(kind, org_id=org_id, slug=slug)
        if record is None or not record.lengths:
            return record
        return await self._read(lambda reader: reader.find(kind, org_id=org_id, slug=slug))

    async def list(self, query: Query) -> Page:
        """As `ResourceStore.list`."""
        return await self._read(lambda reader: reader.list(query))

    async def save(self, record: Record, *, expected: int | None = None, archive: Archive | None = None) -> Record:
        """As `ResourceStore.save`."""
        return await self._writer.write(lambda tx: tx.save(record, expected=expected, archive=archive))

    async def delete(self, kind: str, id: str, *, expected: int | None = None) -> Record:
        """As `ResourceStore.delete`."""
        return await self._writer.write(lambda tx: tx.delete(kind, id, expected=expected))

    async def delete_kind(self, kind: str) -> int:
        """As `ResourceStore.delete_kind`."""
        return await self._writer.write(lambda tx: tx.delete_kind(kind))

    async def history(
        self, kind: str, id: str, *, before: int | None = None, limit: int | None = None, documents: bool = True
    ) -> tuple[HistoryEntry, ...]:
        """As `ResourceStore.history`."""
        return await self._read(
            lambda reader: reader.history(kind, id, before=before, limit=limit, documents=documents)
        )

    async def archived(
        self,
        kind: str,
        id: str,
        *,
        version: int | None = None,
        number: int | None = None,
        tag: str = "",
        hash: str = "",
    ) -> HistoryEntry:
        """As `ResourceStore.archived`."""
        return await self._read(
            lambda reader: reader.archived(kind, id, version=version, number=number, tag=tag, hash=hash)
        )

    def watch(self, *, after: int | None = None, kinds: Sequence[str] = (), id: str = "") -> Changes:
        """As `ResourceStore.watch`."""
        self._check_open()
        for kind in kinds:
            _ = self._kinds[kind]
        return self._feed.watch(after=after, kinds=kinds, id=id)

    async def last_sequence(self) -> int:
        """As `ResourceStore.last_sequence`."""
        self._check_open()
        return self._feed.head

    async def identity(self) -> str:
        """As `ResourceStore.identity`."""
        self._check_open()
        return self._identity

    def statistics(self) -> StoreStatistics:
        """Return how the store does now."""
        tally = self._writer.tally
        path = None if self._ownership is None else self._ownership.database
        return StoreStatistics(
            commits=tally.commits,
            failed_commits=tally.failed_commits,
            transactions=tally.transactions,
            changes=tally.changes,
            commit_seconds=tally.commit_seconds,
            waiting=self._writer.waiting,
            fault=tally.fault,
            fault_at=tally.fault_at,
            sequence=self._feed.head,
            watches=self._feed.watches,
            bytes=_size(path),
            log_bytes=_size(path.with_name(path.name + "-wal")) if path is not None else 0,
        )

    async def compact(self, *, keep: int, limit: int | None = None) -> int:
        """As `ResourceStore.compact`."""
        check_compaction(keep, limit)
        return await self._writer.write(lambda tx: tx.compact(keep=keep, limit=limit))

    async def close(self) -> None:
        """As `ResourceStore.close`."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> SqliteStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ClosedError("the store is closed")

    async def _read(self, work: Callable[[SqliteReader], T]) -> T:
        self._check_open()
        if self._readers is None:
            return work(self._near)
        try:
            self._allowance.renew()
            with self._allowance.granted(_NEAR_SECONDS):
                return work(self._near)
        except OverdueError:
            return await self._readers.read(work)

    async def _read_changes(self, after: int, limit: int) -> Sequence[Change]:
        return await self._read(lambda reader: reader.changes(after, limit))

    async def _close(self) -> None:
        await self._writer.close()
        self._feed.close()
        if self._readers is not None:
            await self._readers.close()
        self._near_connection.close()
        # The last connection to close folds the log into the file, which takes as long as the disk does.
        await asyncio.to_thread(self._writer_connection.close)
        if self._ownership is not None:
            self._ownership.release()


def _open(path: Path | None, kinds: Kinds, readers: int) -> _Opened:
    with ExitStack() as undo, translated("opening the database"):
        ownership = None
        if path is not None:
            path, ownership = _own(path)
            undo.callback(ownership.release)
        writer = open_writer(path)
        undo.callback(writer.close)
        check_supported(writer)
        if path is not None:
            use_wal(writer)
        bring_up_to_date(writer, kinds)
        sequence = writer.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'"
        ).fetchone()[0]
        identity = writer.execute("SELECT value FROM identity").fetchone()[0]
        opened = _Opened(writer, sequence, identity, ownership)
        if path is not None:
            opened.near = open_reader(path)
            undo.callback(opened.near.close)
            opened.readers = Readers.open(path, kinds, count=readers)
        undo.pop_all()
        return opened


def _own(path: Path) -> tuple[Path, Ownership]:
    try:
        # Two names of one file are one database.
        path = path.expanduser().resolve()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path, Ownership(path)
    except OSError as error:
        raise StoreUnavailableError(f"the database {path} cannot be opened: {error}") from error


def _close_unused(opening: asyncio.Future[_Opened]) -> None:
    if opening.cancelled() or opening.exception() is not None:
        return
    opened = opening.result()
    if opened.readers is not None:
        opened.readers.discard()
    for connection in (opened.near, opened.writer):
        if connection is not None:
            connection.close()
    if opened.ownership is not None:
        opened.ownership.release()


def _size(path: Path | None) -> int:
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0
