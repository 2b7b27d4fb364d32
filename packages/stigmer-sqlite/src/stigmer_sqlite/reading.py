"""The reading verbs as SQL on one connection, within whatever transaction that connection is in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from stigmer_sqlite.allowance import Allowance
from stigmer_sqlite.cursors import accepted_values, decode_cursor, encode_cursor
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.failures import translated, unavailable
from stigmer_sqlite.kinds import Kinds
from stigmer_sqlite.listing import count_sql, page_sql, plan
from stigmer_sqlite.port import Change, Encoding, HistoryEntry, Operation, Page, Part, Query, Record
from stigmer_sqlite.records import archive_filters, flaw
from stigmer_sqlite.work import finished

T = TypeVar("T")

# A row of SQLite: its columns are typed by the schema, not by Python.
Row = tuple[Any, ...]

COLUMNS = (
    "r.kind, r.id, r.org_id, r.project_id, r.slug, r.data, r.wire, r.labels, r.lengths, r.version, r.updated_at, "
    "r.position"
)
GET = f"SELECT {COLUMNS} FROM resources AS r WHERE r.id = ? AND r.kind = ?"  # noqa: S608 # constants
ENCODING = "SELECT org_id, wire, lengths FROM resources WHERE id = ? AND kind = ?"
PART_ENCODINGS = "SELECT wire FROM resource_parts WHERE id = ? ORDER BY path, position"
FIND = (
    f"SELECT {COLUMNS} FROM resources AS r INDEXED BY resources_named "  # noqa: S608 # constants
    "WHERE r.kind = ? AND r.org_id = ? AND r.slug = ? AND r.slug <> '' ORDER BY r.name_key DESC LIMIT 1"
)
FIND_ANYWHERE = (
    f"SELECT {COLUMNS} FROM resources AS r INDEXED BY resources_by_slug "  # noqa: S608 # constants
    "WHERE r.kind = ? AND r.slug = ? AND r.slug <> '' ORDER BY r.position DESC LIMIT 1"
)
PARTS = (
    "SELECT {columns}path, position, key, CASE WHEN wire IS NULL THEN data ELSE '' END, wire FROM resource_parts "
    "WHERE {which} ORDER BY id, path, position"
)
_PARTS_OF = PARTS.format(columns="", which="id = ?")
PRESENT = "''"
"""What an entry of the history has for its document while that is the present one of its resource, in SQL."""
HISTORY = (
    "SELECT h.kind, h.id, h.version, h.number, h.event, h.tag, h.hash, h.actor, h.message, h.archived_at, {documents} "
    "WHERE h.id = ? AND h.kind = ?{filters} ORDER BY h.{order} DESC LIMIT ?"
)
DOCUMENTS_OF_HISTORY = f"iif(h.data = {PRESENT}, r.data, h.data), iif(h.data = {PRESENT}, r.wire, h.wire)"
FROM_HISTORY = "FROM resource_history AS h JOIN resources AS r ON r.id = h.id"
# The index holds all that is asked for, and only documents that have a hash.
HASHES = "SELECT DISTINCT hash FROM resource_history INDEXED BY resource_history_by_hash WHERE hash <> ''"
CHANGES = (
    "SELECT sequence, operation, kind, id, org_id, slug, version, labels, former_labels FROM changes "
    "WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
_DOCUMENTS = f"{DOCUMENTS_OF_HISTORY} {FROM_HISTORY}"
_NO_DOCUMENTS = "'', NULL FROM resource_history AS h"
_ALL = -1
_LARGEST = 2**63 - 1
_part_of = Part._make
_POSITION = 11
NO_LABELS = NO_LENGTHS = "{}"
_AT_ONCE = 200
"""How many records' parts are read by one statement."""


class SqliteReader:
    """Reads from one connection."""

    def __init__(self, connection: sqlite3.Connection, kinds: Kinds, allowance: Allowance | None = None) -> None:
        self._connection = connection
        self._kinds = kinds
        self._allowance = allowance or Allowance()

    def at_once(self, work: Callable[[SqliteReader], T]) -> T:
        """Run work against one state of the database."""
        with self._snapshot("read"):
            return finished(work(self))

    def get(self, kind: str, id: str) -> Record:
        """As `Reader.get`."""
        record = self.head(kind, id)
        if not record.lengths:
            return record
        # Read again as a whole: between two statements somebody else's commit may come.
        with self._snapshot("read"):
            return self._whole(self.head(kind, id))

    def head(self, kind: str, id: str) -> Record:
        """As `Reader.head`."""
        row = self._one(GET, (id, kind))
        if row is None:
            _ = self._kinds[kind]
            raise NotFoundError(kind, id)
        return record_of(row)

    def encoding(self, kind: str, id: str) -> Encoding:
        """As `Reader.encoding`."""
        head = self.encoding_of_head(kind, id)
        if not head.lengths:
            return head
        with self._snapshot("read"):
            head = self.encoding_of_head(kind, id)
            # All at once: in a long execution there are thousands, and each costs less than a look at the clock.
            rows = self._connection.execute(PART_ENCODINGS, (id,)).fetchall()
        self._allowance.check()
        wires = [row[0] for row in rows]
        return head._replace(parts=None if None in wires else b"".join(wires))

    def encoding_of_head(self, kind: str, id: str) -> Encoding:
        """Return the encoding of the record without its parts."""
        row = self._one(ENCODING, (id, kind))
        if row is None:
            _ = self._kinds[kind]
            raise NotFoundError(kind, id)
        org_id, wire, lengths = row
        return Encoding(org_id, wire, {} if lengths == NO_LENGTHS else json.loads(lengths), b"")

    def parts(self, kind: str, id: str, *, path: str, keys: Sequence[str]) -> tuple[Part, ...]:
        """As `Reader.parts`."""
        _ = self._kinds[kind]
        wanted = [key for key in dict.fromkeys(keys) if key and not flaw(key)]
        if flaw(id) or flaw(path):
            return ()
        found: list[Part] = []
        of_kind = "id = ? AND EXISTS (SELECT 1 FROM resources AS r WHERE r.id = resource_parts.id AND r.kind = ?)"
        with self._snapshot("read"):
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                which = f"{of_kind} AND path = ? AND key <> '' AND key IN ({_marks(some)})"
                sql = PARTS.format(columns="", which=which)
                found += map(_part_of, self._all(sql, (id, kind, path, *some)))
        return tuple(sorted(found, key=lambda part: part.position))

    def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """As `Reader.find`."""
        record = self.found(kind, org_id=org_id, slug=slug)
        if record is None or not record.lengths:
            return record
        with self._snapshot("read"):
            record = self.found(kind, org_id=org_id, slug=slug)
            return record if record is None else self._whole(record)

    def found(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """As `find`, without the record's parts."""
        row = self._one(FIND_ANYWHERE, (kind, slug)) if org_id is None else self._one(FIND, (kind, org_id, slug))
        if row is None:
            _ = self._kinds[kind]
            return None
        return record_of(row)

    def list(self, query: Query) -> Page:
        """As `Reader.list`."""
        kind = self._kinds[query.kind]
        accepted = accepted_values(kind, query)
        after = decode_cursor(query)
        listing = plan(kind, query, accepted)
        if listing is None:
            return Page(records=(), total=0 if query.count else None)
        with self._snapshot("list"):
            choice = listing.choose(self._connection)
            rows = self._all(*page_sql(choice, query, after, COLUMNS))
            total = self._connection.execute(*count_sql(choice, query)).fetchone()[0] if query.count else None
            more = len(rows) > query.limit
            del rows[query.limit :]
            records = self._all_whole(list(map(record_of, rows)))
        cursor = encode_cursor(query, rows[-1][_POSITION]) if more else ""
        return Page(records=tuple(records), next_cursor=cursor, total=total)

    def history(
        self, kind: str, id: str, *, before: int | None, limit: int | None, documents: bool
    ) -> tuple[HistoryEntry, ...]:
        """As `ResourceStore.history`."""
        _ = self._kinds[kind]
        if flaw(id):
            return ()
        sql = HISTORY.format(
            documents=_DOCUMENTS if documents else _NO_DOCUMENTS,
            filters="" if before is None else " AND h.number < ?",
            order="number",
        )
        values = [id, kind, *(() if before is None else (min(before, _LARGEST),)), _ALL if limit is None else limit]
        with translated("history"), self._allowance.reading():
            return tuple(map(entry_of, self._all(sql, values)))

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
        """As `ResourceStore.archived`."""
        _ = self._kinds[kind]
        filters = archive_filters(version=version, number=number, tag=tag, hash=hash)
        # The literal lets SQLite see that the partial index on tags or hashes applies.
        terms = "".join(
            f" AND h.{name} = ? AND h.{name} <> ''" if name in ("tag", "hash") else f" AND h.{name} = ?"
            for name in filters
        )
        sql = HISTORY.format(documents=_DOCUMENTS, filters=terms, order="version")
        row = self._one(sql, (id, kind, *filters.values(), 1))
        if row is None:
            raise NotFoundError(kind, id, " and ".join(f"{name} {value!r}" for name, value in filters.items()))
        return entry_of(row)

    def archived_hashes(self) -> frozenset[str]:
        """As `Reader.archived_hashes`."""
        with translated("reading hashes"), self._allowance.reading():
            return frozenset(row[0] for row in self._all(HASHES, ()))

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """Return the changes after a sequence, oldest first."""
        with translated("reading changes"):
            return [change_of(row) for row in self._connection.execute(CHANGES, (after, limit))]

    def _whole(self, head: Record) -> Record:
        """Return the record with its parts, within the snapshot in which it was read."""
        if not head.lengths:
            return head
        return replace(head, parts=tuple(map(_part_of, self._all(_PARTS_OF, (head.id,)))))

    def _all_whole(self, heads: list[Record]) -> list[Record]:
        """Return the records with their parts, within the snapshot in which they were read."""
        ids = [record.id for record in heads if record.lengths]
        if not ids:
            return heads
        parts: dict[str, list[Part]] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            for row in self._all(PARTS.format(columns="id, ", which=f"id IN ({_marks(some)})"), some):
                parts.setdefault(row[0], []).append(_part_of(row[1:]))
        return [replace(head, parts=tuple(parts.get(head.id, ()))) if head.lengths else head for head in heads]

    def _all(self, sql: str, values: Sequence[str | int]) -> list[Row]:
        rows: list[Row] = []
        for row in self._connection.execute(sql, values):
            rows.append(row)
            self._allowance.check()
        return rows

    def _one(self, sql: str, values: tuple[str | int, ...]) -> Row | None:
        try:
            return self._connection.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from error
        except (UnicodeEncodeError, OverflowError):
            return None  # no stored text has lone surrogates, and no stored number that many digits

    def _snapshot(self, doing: str) -> _Snapshot:
        return _Snapshot(self._connection, self._allowance, doing)


class _Snapshot:
    """One state of the database for several statements, which may be interrupted when they take too long.

    A class, because as generators the three things that it does cost a short read a tenth of its time.
    """

    __slots__ = ("_allowance", "_connection", "_doing", "_own", "_reading")

    def __init__(self, connection: sqlite3.Connection, allowance: Allowance, doing: str) -> None:
        self._connection = connection
        self._allowance = allowance
        self._doing = doing
        self._own = False
        self._reading = False

    def __enter__(self) -> None:
        # Within a transaction, a writing one or a snapshot around this one, one state is seen anyway.
        self._own = not self._connection.in_transaction
        if self._own:
            self._execute("BEGIN")
        self._reading, self._allowance.reads = self._allowance.reads, True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._allowance.reads = self._reading
        if self._own:
            self._execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise unavailable(error, self._doing) from error

    def _execute(self, sql: str) -> None:
        try:
            self._connection.execute(sql)
        except sqlite3.Error as error:
            raise unavailable(error, self._doing) from error


def record_of(row: Row) -> Record:
    """Return the record in a row of COLUMNS."""
    kind, id, org_id, project_id, slug, data, wire, labels, lengths, version, updated_at, position = row
    return Record(
        kind=kind,
        id=id,
        org_id=org_id,
        project_id=project_id,
        slug=slug,
        data=data,
        wire=wire,
        labels={} if labels == NO_LABELS else json.loads(labels),
        lengths={} if lengths == NO_LENGTHS else json.loads(lengths),
        version=version,
        updated_at=datetime.fromisoformat(updated_at),
        position=position,
    )


def entry_of(row: Row) -> HistoryEntry:
    """Return the entry in a row of HISTORY."""
    kind, id, version, number, event, tag, hash, actor, message, archived_at, data, wire = row
    return HistoryEntry(
        kind=kind,
        id=id,
        version=version,
        number=number,
        data=data,
        wire=wire,
        event=event,
        tag=tag,
        hash=hash,
        actor=actor,
        message=message,
        archived_at=datetime.fromisoformat(archived_at),
    )


def change_of(row: Row) -> Change:
    """Return the change in a row of CHANGES."""
    sequence, operation, kind, id, org_id, slug, version, labels, former_labels = row
    return Change(
        sequence=sequence,
        operation=Operation(operation),
        kind=kind,
        id=id,
        org_id=org_id,
        slug=slug,
        version=version,
        labels={} if labels == NO_LABELS else json.loads(labels),
        former_labels=None if former_labels is None else json.loads(former_labels),
    )


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
