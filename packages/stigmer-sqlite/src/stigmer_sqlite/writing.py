"""The writing verbs as SQL on the writing connection, and the changes they leave behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from stigmer_sqlite.allowance import Allowance
from stigmer_sqlite.errors import (
    ClosedError,
    ConflictError,
    IdTakenError,
    InvalidRecordError,
    NotFoundError,
    SlugTakenError,
    StoreUnavailableError,
)
from stigmer_sqlite.failures import is_code, unavailable
from stigmer_sqlite.kinds import Kinds
from stigmer_sqlite.port import Archive, Change, Encoding, HistoryEntry, Operation, Page, Part, Query, Record
from stigmer_sqlite.reading import COLUMNS, NO_LABELS, NO_LENGTHS, PRESENT, Row, SqliteReader, record_of
from stigmer_sqlite.records import Clock, check_parts, check_record, flaw, saved_as, search_text

_PRESENT = f"""
SELECT kind, version, position, org_id, project_id, slug, labels, lengths, EXISTS (
    SELECT 1 FROM resource_history AS h WHERE h.id = r.id AND h.version = r.version AND h.data = {PRESENT}
)
FROM resources AS r WHERE id = ?
"""  # noqa: S608 # constants
_WHOLE = f"SELECT {COLUMNS} FROM resources AS r WHERE r.id = ? AND r.kind = ?"  # noqa: S608 # constants
_HOLDER = "SELECT id FROM resources WHERE kind = ? AND org_id = ? AND slug = ? AND slug <> ''"
_INSERT = """
INSERT INTO resources
    (id, kind, org_id, project_id, slug, name_key, position, version, updated_at, labels, lengths, search, data, wire)
VALUES
    (:id, :kind, :org_id, :project_id, :slug, :name_key, :position, 1, :updated_at, :labels, :lengths,
     :search, :data, :wire)
"""
_REPLACE = """
UPDATE resources
SET org_id = :org_id, project_id = :project_id, slug = :slug, version = :version, updated_at = :updated_at,
    labels = :labels, lengths = :lengths, search = :search, data = :data, wire = :wire
WHERE id = :id
"""
# The frequent case, a new document under the same names: it leaves the indexes on names alone.
_REPLACE_DOCUMENT = """
UPDATE resources
SET version = :version, updated_at = :updated_at, lengths = :lengths, search = :search, data = :data, wire = :wire
WHERE id = :id
"""
_SEARCH = "SELECT search_text(?, json_extract(?, '$.metadata.name'), ?)"
_ARCHIVE = (
    "INSERT INTO resource_history "
    "(kind, id, version, number, data, wire, event, tag, hash, actor, message, archived_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# Before a document that the history has only here is replaced.
_KEEP_PRESENT = """
UPDATE resource_history SET data = r.data, wire = r.wire FROM resources AS r
WHERE r.id = ?1 AND resource_history.id = ?1 AND resource_history.version = r.version
"""
_LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM resource_history WHERE id = ?"
_CHANGE = (
    "INSERT INTO changes (sequence, operation, kind, id, org_id, slug, version, labels, former_labels) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_PART = (
    "INSERT INTO resource_parts (id, path, position, key, data, wire) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id, path, position) DO UPDATE SET key = excluded.key, data = excluded.data, wire = excluded.wire"
)
_CUT_PARTS = "DELETE FROM resource_parts WHERE id = ? AND path = ? AND position >= ?"
_ADD_LABEL = "INSERT INTO resource_labels (kind, key, value, position, id) VALUES (?, ?, ?, ?, ?)"
_REMOVE_LABEL = "DELETE FROM resource_labels WHERE kind = ? AND key = ? AND value = ? AND position = ?"


# What is done on the event loop's thread at most, a millisecond or so: characters of a document that are written, and
# changes that are dropped.
_LONG = 256 * 1024
_MANY = 1000


class Journal:
    """The changes of the database transaction under way, numbered; written to the feed just before its commit."""

    def __init__(self, sequence: int) -> None:
        self.clock = Clock()
        self.failed = False
        """Whether the storage failed a statement: the whole database transaction must go then."""
        self.dirty = False
        """Whether there is anything to commit besides changes of records."""
        self._committed = sequence
        self._pending: list[Change] = []

    @property
    def next_sequence(self) -> int:
        """The sequence of the next change."""
        return self._committed + len(self._pending) + 1

    def add(self, operation: Operation, record: Record, former: Mapping[str, str] | None = None) -> None:
        """Note what was done to the record; `former` labels are given where they were others."""
        self._pending.append(
            Change(
                sequence=self.next_sequence,
                operation=operation,
                kind=record.kind,
                id=record.id,
                org_id=record.org_id,
                slug=record.slug,
                version=record.version,
                labels=record.labels,
                former_labels=former,
            )
        )

    def mark(self) -> int:
        """Return a place to go back to with `rewind`."""
        return len(self._pending)

    def rewind(self, mark: int) -> None:
        """Forget the changes noted since the mark."""
        del self._pending[mark:]

    def write(self, connection: sqlite3.Connection) -> bool:
        """Add the changes to the feed; return whether there is anything to commit."""
        connection.executemany(
            _CHANGE,
            (
                (c.sequence, c.operation.value, c.kind, c.id, c.org_id, c.slug, c.version, _text(c.labels), former)
                for c in self._pending
                for former in (None if c.former_labels is None else _text(c.former_labels),)
            ),
        )
        return self.dirty or bool(self._pending)

    def committed(self) -> list[Change]:
        """Return the changes, now durable, and begin anew after them."""
        changes, self._pending = self._pending, []
        self._committed += len(changes)
        self.dirty = False
        return changes

    def abandon(self) -> None:
        """Forget everything since the last commit."""
        self._pending = []
        self.failed = False
        self.dirty = False


class SqliteTransaction:
    """What one piece of work sees and does; of use only while the work runs."""

    def __init__(self, connection: sqlite3.Connection, kinds: Kinds, journal: Journal, allowance: Allowance) -> None:
        self._connection = connection
        self._kinds = kinds
        self._journal = journal
        self._allowance = allowance
        self._reader = SqliteReader(connection, kinds, allowance)
        self._storing = _Storing(journal)
        self._over = False

    def end(self) -> None:
        """Refuse further use: whoever kept the transaction must not write into somebody else's."""
        self._over = True

    def get(self, kind: str, id: str) -> Record:
        """As `Reader.get`."""
        self._check()
        return self._reader.get(kind, id)

    def head(self, kind: str, id: str) -> Record:
        """As `Reader.head`."""
        self._check()
        return self._reader.head(kind, id)

    def encoding(self, kind: str, id: str) -> Encoding:
        """As `Reader.encoding`."""
        self._check()
        return self._reader.encoding(kind, id)

    def parts(self, kind: str, id: str, *, path: str, keys: Sequence[str]) -> tuple[Part, ...]:
        """As `Reader.parts`."""
        self._check()
        return self._reader.parts(kind, id, path=path, keys=keys)

    def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """As `Reader.find`."""
        self._check()
        return self._reader.find(kind, org_id=org_id, slug=slug)

    def list(self, query: Query) -> Page:
        """As `Reader.list`."""
        self._check()
        return self._reader.list(query)

    def archived(
        self,
        kind: str,
        id: str,
        *,
        version: int | None = None,
        number: int | None = None,
        tag: str = "",
        hash: str = "",
    ) -> HistoryEntry:
        """As `Reader.archived`."""
        self._check()
        return self._reader.archived(kind, id, version=version, number=number, tag=tag, hash=hash)

    def archived_hashes(self) -> frozenset[str]:
        """As `Reader.archived_hashes`."""
        self._check()
        return self._reader.archived_hashes()

    def save(self, record: Record, *, expected: int | None = None, archive: Archive | None = None) -> Record:
        """As `Transaction.save`."""
        self._check()
        named = self._kinds[record.kind].named
        self._allowance.check(size=_size(record), limit=_LONG)
        check_record(record, archive)
        # What is to be new is written without a look, and whether it is, told by the primary key. Of what is divided,
        # the parts are judged by what is there.
        divided = bool(record.lengths or record.parts)
        row = None if expected == 0 and not divided else self._present(record, expected)
        actual = 0 if row is None else row[1]
        lengths: dict[str, int] = {} if row is None or row[7] == NO_LENGTHS else json.loads(row[7])
        if divided:
            check_parts(record, lengths)
        if row is not None and row[8]:
            with self._storing:
                self._connection.execute(_KEEP_PRESENT, (record.id,))
        position = self._journal.next_sequence if row is None else row[2]
        saved = saved_as(record, version=actual + 1, now=self._journal.clock.now(), position=position)
        former = self._write(saved, row, named=named)
        if record.lengths or lengths:
            self._write_parts(saved, lengths)
        if archive is not None:
            self._archive(saved, archive, first=row is None)
        self._journal.add(Operation.UPDATED if row else Operation.CREATED, saved, former)
        return saved

    def delete(self, kind: str, id: str, *, expected: int | None = None) -> Record:
        """As `Transaction.delete`."""
        self._check()
        _ = self._kinds[kind]
        with self._storing:
            row: Row | None = None if flaw(id) else self._connection.execute(_WHOLE, (id, kind)).fetchone()
        if row is None:
            raise NotFoundError(kind, id)
        record = record_of(row)
        if record.lengths:
            record = self._reader.get(kind, id)
        if expected is not None and expected != record.version:
            raise ConflictError(kind, id, expected=expected, actual=record.version)
        with self._storing:
            self._connection.execute("DELETE FROM resources WHERE id = ?", (id,))
            self._replace_labels(record, dict(record.labels), {}, position=row[11])
        self._journal.add(Operation.DELETED, record)
        return record

    def delete_kind(self, kind: str) -> int:
        """As `Transaction.delete_kind`."""
        self._check()
        _ = self._kinds[kind]
        self._allowance.check(size=1)
        with self._storing:
            rows = self._connection.execute(
                "SELECT id, org_id, slug, version, labels FROM resources WHERE kind = ? ORDER BY position", (kind,)
            ).fetchall()
            self._connection.execute("DELETE FROM resources WHERE kind = ?", (kind,))
            self._connection.execute("DELETE FROM resource_labels WHERE kind = ?", (kind,))
        for id, org_id, slug, version, labels in rows:
            had = json.loads(labels)
            gone = Record(kind=kind, id=id, org_id=org_id, slug=slug, data="", version=version, labels=had)
            self._journal.add(Operation.DELETED, gone)
        return len(rows)

    def compact(self, *, keep: int, limit: int | None) -> int:
        """As `ResourceStore.compact`; changes of the transaction under way are not counted."""
        self._check()
        if limit is None or limit > _MANY:
            self._allowance.check(size=1)
        last = self._journal.next_sequence - 1 - keep
        with self._storing:
            if limit is not None:
                oldest = self._connection.execute("SELECT min(sequence) FROM changes").fetchone()[0]
                last = min(last, (oldest or 0) + limit - 1)
            dropped = self._connection.execute("DELETE FROM changes WHERE sequence <= ?", (last,)).rowcount
        self._journal.dirty = self._journal.dirty or dropped > 0
        return dropped

    def _present(self, record: Record, expected: int | None) -> Row | None:
        """Return what is stored under the record's id. Raises: IdTakenError, ConflictError."""
        with self._storing:
            row: Row | None = self._connection.execute(_PRESENT, (record.id,)).fetchone()
        if row is not None and row[0] != record.kind:
            raise IdTakenError(record.kind, record.id, holder=row[0])
        actual = 0 if row is None else row[1]
        if expected is not None and expected != actual:
            raise ConflictError(record.kind, record.id, expected=expected, actual=actual)
        return row

    def _write(self, record: Record, row: Row | None, *, named: bool) -> Mapping[str, str] | None:
        """Write the record; return its labels before that, where they were others."""
        labels = _text(record.labels)
        sql, former = _INSERT, NO_LABELS
        if row is not None:
            former = row[6]
            same_names = row[3:7] == (record.org_id, record.project_id, record.slug, labels)
            sql = _REPLACE_DOCUMENT if same_names else _REPLACE
        values: dict[str, object] = {
            "id": record.id,
            "kind": record.kind,
            "org_id": record.org_id,
            "project_id": record.project_id,
            "slug": record.slug,
            "name_key": 0 if named else record.position,
            "position": record.position,
            "version": record.version,
            "updated_at": stamp(record.updated_at),
            "labels": labels,
            "lengths": _text(record.lengths),
            "data": record.data,
            "wire": record.wire,
        }
        try:
            values["search"] = self._search_text(record)
            self._connection.execute(sql, values)
        except (sqlite3.Error, OverflowError) as error:
            self._blame_record(record, error, is_new=row is None)
            raise self._failed(error) from error
        if labels == former:
            return None
        had: dict[str, str] = json.loads(former)
        with self._storing:
            self._replace_labels(record, had, dict(record.labels), position=record.position)
        return None if row is None else had

    def _search_text(self, record: Record) -> str:
        if record.name is None or flaw(record.name):
            return self._connection.execute(_SEARCH, (record.slug, record.data, record.id)).fetchone()[0]
        return search_text(record.slug, record.name, record.id)

    def _write_parts(self, record: Record, former: dict[str, int]) -> None:
        cut = [(record.id, path, record.lengths.get(path, 0)) for path in former]
        put = [(record.id, part.path, part.position, part.key, part.data, part.wire) for part in record.parts]
        try:
            self._connection.executemany(_CUT_PARTS, cut)
            self._connection.executemany(_PUT_PART, put)
        except (sqlite3.Error, OverflowError) as error:
            self._blame_record(record, error)
            raise self._failed(error) from error

    def _replace_labels(self, record: Record, old: dict[str, str], new: dict[str, str], *, position: int) -> None:
        gone = [(record.kind, *label, position) for label in old.items() - new.items()]
        came = [(record.kind, *label, position, record.id) for label in new.items() - old.items()]
        if gone:
            self._connection.executemany(_REMOVE_LABEL, gone)
        if came:
            self._connection.executemany(_ADD_LABEL, came)

    def _archive(self, record: Record, archive: Archive, *, first: bool) -> None:
        said = (archive.event, archive.tag, archive.hash, archive.actor, archive.message)
        # What is the record's own document is not stored twice for as long as it is the present one.
        data, wire = ("", None) if archive.data is None else (archive.data, archive.wire)
        with self._storing:
            number = 1 if first else self._connection.execute(_LAST_NUMBER, (record.id,)).fetchone()[0] + 1
            named = (record.kind, record.id, record.version, number, data, wire)
            self._connection.execute(_ARCHIVE, (*named, *said, stamp(record.updated_at)))

    def _check(self) -> None:
        if self._over:
            raise ClosedError("the transaction is over")
        self._allowance.check()

    def _failed(self, error: Exception) -> StoreUnavailableError:
        """Return what to raise for a storage that cannot store."""
        self._journal.failed = True
        return unavailable(error, "write")

    def _blame_record(self, record: Record, error: Exception, *, is_new: bool = False) -> None:
        """Raise what is wrong with a record that cannot be stored, if it is not the storage that cannot store."""
        name = f"{record.kind} {record.id[:200]!r}"
        if isinstance(error, OverflowError) or is_code(error, sqlite3.SQLITE_TOOBIG):
            raise InvalidRecordError(f"{name} is too large for the store") from error
        if is_new and is_code(error, sqlite3.SQLITE_CONSTRAINT):
            self._present(record, 0)
        if is_code(error, sqlite3.SQLITE_CONSTRAINT_UNIQUE):
            row = self._connection.execute(_HOLDER, (record.kind, record.org_id, record.slug)).fetchone()
            raise SlugTakenError(record.kind, record.org_id, record.slug, id=row[0])
        # Only what is computed from the document can fail like this: json_valid, json_extract, search_text.
        if is_code(error, sqlite3.SQLITE_CONSTRAINT_CHECK) or is_code(error, sqlite3.SQLITE_ERROR):
            raise InvalidRecordError(f"data of {name} is not JSON text: {error}") from error


class _Storing:
    """Tells a storage that cannot store, around statements that are right by themselves."""

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error | OverflowError):
            self._journal.failed = True
            raise unavailable(error, "write") from error


def _text(mapping: Mapping[str, str | int]) -> str:
    if not mapping:
        return NO_LABELS
    return json.dumps(dict(mapping), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _size(record: Record) -> int:
    parts = sum(len(part.data) + len(part.wire or b"") for part in record.parts)
    return len(record.data) + len(record.wire or b"") + parts


def stamp(at: datetime | None) -> str:
    """Return the stored form of a time: all of one width, so that text order is time order."""
    assert at is not None  # noqa: S101 # saved_as sets it
    return at.isoformat(timespec="microseconds")
