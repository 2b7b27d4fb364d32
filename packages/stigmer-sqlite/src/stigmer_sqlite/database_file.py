"""A database as a file: copied, checked and mended beside the store that may have it open.

Works on the file alone and knows no kinds. Reading needs nobody's leave, for SQLite shows every reader one whole state;
a few short writes may stand between those of the store that owns the database, as long as they neither add a change
to the feed nor alter what a document means.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from stigmer_sqlite.connections import BUSY_TIMEOUT
from stigmer_sqlite.disk import sync_file, sync_folder
from stigmer_sqlite.errors import StoreUnavailableError
from stigmer_sqlite.failures import translated
from stigmer_sqlite.ownership import Ownership
from stigmer_sqlite.port import HistoryEntry, Record
from stigmer_sqlite.reading import COLUMNS, DOCUMENTS_OF_HISTORY, FROM_HISTORY, PRESENT, entry_of, record_of
from stigmer_sqlite.schema import check_supported

Recode = Callable[[str, str, str, bytes | None], tuple[str, bytes | None] | None]
"""Given kind, id, `data` and `wire`: `data` and `wire` that mean the same and take their place; None leaves them."""

_PATIENCE = 30_000
"""Milliseconds that rewriting waits for a busy store."""
_LOGS = ("-wal", "-shm")
_HISTORY_COLUMNS = {
    **dict.fromkeys(("kind", "id", "version"), ""),
    "number": "version",
    **dict.fromkeys(("event", "tag", "hash"), ""),
    **dict.fromkeys(("actor", "message"), "''"),
    "archived_at": "",
}
"""What `entry_of` reads before the document, and what stands for it in a database not yet brought up to date."""
_PARTS_RULES: tuple[tuple[str, str], ...] = (
    (
        "{0} has not as many elements at {1} as it says",
        "SELECT r.id, j.key FROM resources r, json_each(r.lengths) j WHERE r.lengths <> '{}' AND j.value <> ("
        "SELECT count(*) FROM resource_parts p WHERE p.id = r.id AND p.path = j.key AND p.position < j.value)",
    ),
    (
        "{0} does not say that it has an element {2} at {1}",
        "SELECT p.id, p.path, p.position FROM resource_parts p JOIN resources r ON r.id = p.id "
        "WHERE NOT EXISTS (SELECT 1 FROM json_each(r.lengths) j WHERE j.key = p.path AND p.position < j.value)",
    ),
)
"""What must be in a database that knows parts."""
# What must be in every database, and what to say of rows that contradict it.
_RULES: tuple[tuple[str, str], ...] = (
    ("integrity: {0}", "PRAGMA integrity_check(100)"),
    ("row {1} of {0} belongs to a row of {2} that does not exist", "PRAGMA foreign_key_check"),
    (
        "a label of {0} is not among those that are searched",
        "SELECT DISTINCT r.id FROM resources r, json_each(r.labels) j WHERE r.labels <> '{}' AND NOT EXISTS ("
        "SELECT 1 FROM resource_labels l WHERE l.kind = r.kind AND l.key = j.key AND l.value = j.value "
        "AND l.position = r.position AND l.id = r.id)",
    ),
    (
        "a label is searched that {0} does not have",
        "SELECT DISTINCT l.id FROM resource_labels l LEFT JOIN resources r ON r.id = l.id AND r.kind = l.kind "
        "WHERE r.id IS NULL OR r.position <> l.position OR NOT EXISTS ("
        "SELECT 1 FROM json_each(r.labels) j WHERE j.key = l.key AND j.value = l.value)",
    ),
    (
        "the slug of {0} is unique, or not, against what its kind says",
        "SELECT r.id FROM resources r JOIN kinds k ON k.kind = r.kind "
        "WHERE r.name_key <> CASE WHEN k.named THEN 0 ELSE r.position END",
    ),
    (
        "the history of {0} has version {1}, which the resource has not reached, or of another kind",
        "SELECT h.id, h.version FROM resource_history h JOIN resources r ON r.id = h.id "
        "WHERE h.version > r.version OR h.kind <> r.kind",
    ),
    (
        "the history of {0} has no document for version {1}, which is not the present one",
        "SELECT h.id, h.version FROM resource_history h JOIN resources r ON r.id = h.id "
        "WHERE h.data = '' AND h.version <> r.version",
    ),
    (
        "{0} was created after the newest change, {1}",
        "SELECT r.id, s.seq FROM resources r, (SELECT coalesce(max(seq), 0) AS seq FROM sqlite_sequence "
        "WHERE name = 'changes') s WHERE r.position > s.seq",
    ),
    (
        "the change feed has gaps: {0} changes from {1} to {2}",
        "SELECT count(*), min(sequence), max(sequence) FROM changes "
        "HAVING count(*) <> max(sequence) - min(sequence) + 1",
    ),
)


class DatabaseFile:
    """One database file; a context manager. Every read within `snapshot` is of one state."""

    def __init__(self, path: str | Path, *, immutable: bool = False) -> None:
        """Open it for reading.

        Args:
            path: A file that exists.
            immutable: Nobody writes it meanwhile; it may then stand on a medium that cannot be written.

        Raises:
            StoreUnavailableError: It is not there or cannot be read; UnsupportedSchemaError: it was written by a newer
                version or by something else.
        """
        self.path = Path(path).expanduser().resolve()
        if not self.path.is_file():
            raise StoreUnavailableError(f"there is no database {self.path}")
        with translated(f"opening {self.path}"):
            self._connection = _open(self.path, "immutable=1" if immutable else "mode=rw")
            try:
                self._connection.execute("PRAGMA query_only = ON")
                check_supported(self._connection)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Read the state of this moment within, whatever is written meanwhile."""
        with translated("reading"):
            self._connection.execute("BEGIN")
            try:
                # A read transaction begins with its first read.
                self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def copy_to(self, target: Path) -> None:
        """Write the state that is read to a new file, which needs no log beside it, and wait for the disk.

        Within `snapshot` it is the state of its beginning; else a state between beginning and end of the copy.

        Raises:
            StoreUnavailableError: The database cannot be read or the file not written; what there is of it remains.
        """
        with translated(f"copying to {target}"):
            copy = sqlite3.connect(target, isolation_level=None)
            try:
                # Written once and synced at the end: until then it is worth nothing anyway.
                copy.execute("PRAGMA synchronous = OFF")
                self._connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
            finally:
                copy.close()
        try:
            sync_file(target)
            sync_folder(target.parent)
        except OSError as error:
            raise StoreUnavailableError(f"copying to {target} failed: {error}") from error

    def last_sequence(self) -> int:
        """Return the sequence of the newest change."""
        found = self._all("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'")
        return int(found[0][0])

    def counts(self) -> dict[str, int]:
        """Return how many records there are, by kind."""
        return dict(self._all("SELECT kind, count(*) FROM resources GROUP BY kind ORDER BY kind"))

    def records(self) -> Iterator[Record]:
        """Yield every record, by id, without its parts."""
        with translated("reading records"):
            columns = COLUMNS if self._knows_parts() else COLUMNS.replace("r.lengths", "'{}'")
            sql = f"SELECT {columns} FROM resources AS r ORDER BY r.id"  # noqa: S608 # constants
            yield from map(record_of, self._connection.execute(sql))

    def entries(self) -> Iterator[HistoryEntry]:
        """Yield every entry of every record's history, by id and version."""
        with translated("reading history"):
            present = {row[1] for row in self._connection.execute("PRAGMA table_info(resource_history)")}
            named = (name if name in present else other for name, other in _HISTORY_COLUMNS.items())
            columns = ", ".join(name if name == "''" else f"h.{name}" for name in named)
            sql = f"SELECT {columns}, {DOCUMENTS_OF_HISTORY} {FROM_HISTORY} ORDER BY h.id, h.version"  # constants
            yield from map(entry_of, self._connection.execute(sql))

    def flaws(self) -> Iterator[str]:
        """Yield what is wrong with the file, its indexes, and what its tables say of each other."""
        with translated("reading the schema"):
            rules = (*_RULES, *(_PARTS_RULES if self._knows_parts() else ()))
        for sentence, sql in rules:
            try:
                for row in self._connection.execute(sql):
                    if row != ("ok",):
                        yield sentence.format(*row)
            except sqlite3.DatabaseError as error:
                yield f"the file is damaged: {error}"
                return

    def recode(self, kinds: Sequence[str], change: Recode, *, batch: int = 50) -> int:
        """Put other encodings in the place of documents, present and past, and return how many were replaced.

        Versions, times and history stay and the feed tells nothing, so the new encoding must mean the same. Runs in
        small transactions, each whole, and gives way to whoever writes meanwhile; it can be stopped anywhere and begun
        again. It sees what every transaction wrote that had begun before it; what is written meanwhile may be missed:
        repeat until nothing was replaced.

        Raises:
            StoreUnavailableError: The database cannot be written. What was replaced before stays so.
        """
        with translated("rewriting documents"):
            writer = _open(self.path, "mode=rw")
            try:
                writer.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
                writer.execute("PRAGMA synchronous = FULL")
                writer.execute("PRAGMA foreign_keys = ON")
                # Nobody gets the lock before the transaction that is under way has ended.
                writer.execute("BEGIN IMMEDIATE")
                writer.execute("COMMIT")
                return sum(_recode(writer, table, kinds, change, batch) for table in _DOCUMENTS)
            finally:
                writer.close()

    def _knows_parts(self) -> bool:
        """Tell whether the database was brought up to date since records may keep arrays apart."""
        return bool(self._all("SELECT 1 FROM sqlite_master WHERE name = 'resource_parts'"))

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        with translated("reading"):
            return self._connection.execute(sql).fetchall()


_DOCUMENTS = (("resources", "id", ""), ("resource_history", "id, version", " AND version = ?"))
"""Tables with documents: name, key, and what finds a row beside `id`."""


def _recode(
    writer: sqlite3.Connection, table: tuple[str, str, str], kinds: Sequence[str], change: Recode, batch: int
) -> int:
    """Go through one table, a batch at a time, in the order of its key."""
    name, key, more = table
    marks = ", ".join("?" * len(kinds))
    places = "(" + ", ".join("?" * len(key.split(", "))) + ")"
    rows_after = (
        f"SELECT {key}, kind, id, data, wire FROM {name} "  # noqa: S608 # constants
        f"WHERE kind IN ({marks}) AND ({key}) > {places} AND data <> {PRESENT} "
        f"ORDER BY {key} LIMIT {batch}"
    )
    replace = f"UPDATE {name} SET data = ?, wire = ? WHERE id = ?{more}"  # noqa: S608 # constants
    position: tuple[Any, ...] = ("",) if not more else ("", 0)
    replaced = 0
    while True:
        began = time.monotonic()
        rows = writer.execute(rows_after, (*kinds, *position)).fetchall()
        if not rows:
            return replaced
        if any(_changed(row, change) for row in rows):
            # Read again under the lock: what is replaced must be what was looked at.
            writer.execute("BEGIN IMMEDIATE")
            try:
                rows = writer.execute(rows_after, (*kinds, *position)).fetchall()
                found = [(made, row[:-4]) for row in rows if (made := _changed(row, change)) is not None]
                writer.executemany(replace, [(*made, *at) for made, at in found])
                writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    writer.execute("ROLLBACK")
                raise
            replaced += len(found)
            # Whoever waits for the lock looks for it now and then: leave it free for as long as it was held.
            time.sleep(time.monotonic() - began)
        if rows:
            position = rows[-1][:-4]


def _changed(row: tuple[Any, ...], change: Recode) -> tuple[str, bytes | None] | None:
    return change(*row[-4:])


def own(path: str | Path) -> Ownership:
    """Keep every store from the database, which need not be there yet, for as long as the result is held.

    Raises:
        InUseError: A store has it open.
        StoreUnavailableError: The file cannot be claimed.
    """
    path = Path(path).expanduser().resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Ownership(path)
    except OSError as error:
        raise StoreUnavailableError(f"the database {path} cannot be claimed: {error}") from error


def put_in_place(new: Path, owned: Ownership) -> Path | None:
    """Make the file `new`, which must be a copy on the same disk, the owned database; whole or not at all.

    It gets an identity of its own, because its changes go on in another way than those of the database it was copied
    from. Returns where the database is kept that was there before, if one was.

    Raises:
        StoreUnavailableError: It cannot be replaced.
    """
    path = owned.database
    with translated(f"preparing {new}"):
        _renew_identity(new)
    try:
        kept = _set_aside(path) if path.exists() else None
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreUnavailableError(f"the database {path} cannot be replaced: {error}") from error
    return kept


def _renew_identity(path: Path) -> None:
    connection = _open(path, "mode=rw")
    try:
        # A database that was not brought up to date yet gets its identity when it is.
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'identity'").fetchone():
            connection.execute("UPDATE identity SET value = lower(hex(randomblob(16)))")
    finally:
        connection.close()


def _set_aside(path: Path) -> Path:
    """Give the present database a second name, with its log folded in, and leave no log that the next would take."""
    for earlier in path.parent.glob(path.name + ".replaced-*"):
        if earlier.samefile(path):
            earlier.unlink()  # of a replacement that was interrupted right here
    kept = path.with_name(f"{path.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    logs = [(path.with_name(path.name + suffix), kept.with_name(kept.name + suffix)) for suffix in _LOGS]
    kept.hardlink_to(path)
    for log, kept_log in logs:
        if log.exists():
            kept_log.hardlink_to(log)
    if _fold(path):
        for _, kept_log in logs:
            kept_log.unlink(missing_ok=True)
    for log, _ in logs:
        log.unlink(missing_ok=True)
    sync_folder(path.parent)
    return kept


def _fold(path: Path) -> bool:
    """Fold the log into the database; False: it is too damaged for that."""
    try:
        connection = _open(path, "mode=rw")
        try:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False
    return not busy


def compact(owned: Ownership) -> tuple[int, int]:
    """Rewrite the owned database without its free pages, and return its size in bytes before and after.

    Nothing is lost if it is interrupted. Needs as much free space as the database takes.

    Raises:
        StoreUnavailableError: It is not there, or cannot be rewritten.
    """
    path = owned.database
    with DatabaseFile(path):
        pass
    with translated("compacting"):
        connection = _open(path, "mode=rw")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            before = path.stat().st_size
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    return before, path.stat().st_size


def _open(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
    except BaseException:
        connection.close()
        raise
    return connection
