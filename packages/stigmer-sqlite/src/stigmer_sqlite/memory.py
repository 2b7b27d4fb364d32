"""`ResourceStore` in plain memory: the port's meaning with nothing in between, for tests and for what need not last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NoReturn, TypeVar
from uuid import uuid4

from stigmer_sqlite.cursors import accepted_values, decode_cursor, encode_cursor, organizations
from stigmer_sqlite.errors import (
    ClosedError,
    ConflictError,
    IdTakenError,
    InvalidRecordError,
    NotFoundError,
    SlugTakenError,
)
from stigmer_sqlite.feed import Feed
from stigmer_sqlite.kinds import JsonPath, Kind, Kinds
from stigmer_sqlite.port import (
    Archive,
    Change,
    Changes,
    Encoding,
    HistoryEntry,
    KindSchema,
    Operation,
    Page,
    Part,
    Query,
    Reader,
    Record,
    Transaction,
)
from stigmer_sqlite.records import (
    Clock,
    archive_filters,
    check_compaction,
    check_parts,
    check_record,
    flaw,
    saved_as,
    search_text,
)
from stigmer_sqlite.work import finished

T = TypeVar("T")

_NAME = JsonPath.parse("$.metadata.name")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stored record with what is looked for in it."""

    record: Record
    search: str
    indexed: dict[str, str | int | float | None]


class _State:
    """Everything stored, and how to undo what was done to it since the transaction began."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.by_slug: dict[tuple[str, str], set[str]] = {}
        self.archive: dict[str, list[HistoryEntry]] = {}
        self.changes: list[Change] = []
        self.sequence = 0
        self._undo: list[Callable[[], object]] = []

    def put(self, id: str, entry: _Entry | None) -> None:
        """Store the entry in place of what is there; None removes that."""
        former = self.entries.get(id)
        self._undo.append(lambda: self._put(id, former))
        self._put(id, entry)

    def put_archive(self, id: str, kept: list[HistoryEntry]) -> None:
        """Set the history of a record."""
        former = self.archive.get(id, [])
        self._undo.append(lambda: self.archive.__setitem__(id, former))
        self.archive[id] = kept

    def note(self, operation: Operation, record: Record, former: Mapping[str, str] | None = None) -> None:
        """Add to the changes; `former` labels are told where they were others."""
        self.sequence += 1
        self._undo.append(self._unnote)
        change = Change(
            sequence=self.sequence,
            operation=operation,
            kind=record.kind,
            id=record.id,
            org_id=record.org_id,
            slug=record.slug,
            version=record.version,
            labels=dict(record.labels),
            former_labels=None if former == record.labels else former,
        )
        self.changes.append(change)

    def commit(self, since: int) -> Sequence[Change]:
        """Make it lasting and return the changes after the sequence."""
        self._undo.clear()
        return self.changes[len(self.changes) - (self.sequence - since) :]

    def roll_back(self) -> None:
        """Undo everything since the last commit."""
        while self._undo:
            self._undo.pop()()

    def _put(self, id: str, entry: _Entry | None) -> None:
        former = self.entries.pop(id, None)
        if former is not None:
            self.by_slug[former.record.kind, former.record.slug].discard(id)
        if entry is not None:
            self.entries[id] = entry
            self.by_slug.setdefault((entry.record.kind, entry.record.slug), set()).add(id)

    def _unnote(self) -> None:
        self.changes.pop()
        self.sequence -= 1


class _MemoryTransaction:
    """The verbs upon a state; as a transaction, of use only until `end`."""

    def __init__(self, state: _State, kinds: Kinds, clock: Clock) -> None:
        self._state = state
        self._kinds = kinds
        self._clock = clock
        self._over = False

    def end(self) -> None:
        """Refuse further use."""
        self._over = True

    def get(self, kind: str, id: str) -> Record:
        """As `Reader.get`."""
        return _copy(self._entry(kind, id).record)

    def head(self, kind: str, id: str) -> Record:
        """As `Reader.head`."""
        return replace(self.get(kind, id), parts=())

    def encoding(self, kind: str, id: str) -> Encoding:
        """As `Reader.encoding`."""
        record = self.get(kind, id)
        wires = [part.wire for part in record.parts]
        parts = None if None in wires else b"".join(wire for wire in wires if wire is not None)
        return Encoding(record.org_id, record.wire, record.lengths, parts)

    def parts(self, kind: str, id: str, *, path: str, keys: Sequence[str]) -> tuple[Part, ...]:
        """As `Reader.parts`."""
        self._check(kind)
        entry = self._state.entries.get(id)
        if entry is None or entry.record.kind != kind:
            return ()
        wanted = {key for key in keys if key}
        return tuple(part for part in entry.record.parts if part.path == path and part.key in wanted)

    def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """As `Reader.find`."""
        self._check(kind)
        ids = self._state.by_slug.get((kind, slug), ()) if slug else ()
        found = (self._state.entries[id] for id in ids)
        matches = [entry for entry in found if org_id is None or entry.record.org_id == org_id]
        return _copy(max(matches, key=lambda entry: entry.record.position).record) if matches else None

    def list(self, query: Query) -> Page:
        """As `Reader.list`."""
        accepted = accepted_values(self._check(query.kind), query)
        after = decode_cursor(query)
        matches = [entry for entry in self._state.entries.values() if _matches(entry, query, accepted)]
        matches.sort(key=lambda entry: entry.record.position, reverse=query.newest_first)
        rest = [entry for entry in matches if after is None or _is_beyond(entry, query, after)]
        del rest[: query.offset]
        page = rest[: query.limit]
        return Page(
            records=tuple(_copy(entry.record) for entry in page),
            next_cursor=encode_cursor(query, page[-1].record.position) if len(rest) > len(page) else "",
            total=len(matches) if query.count else None,
        )

    def save(self, record: Record, *, expected: int | None = None, archive: Archive | None = None) -> Record:
        """As `Transaction.save`."""
        kind = self._check(record.kind)
        check_record(record, archive)
        present = self._state.entries.get(record.id)
        if present is not None and present.record.kind != record.kind:
            raise IdTakenError(record.kind, record.id, holder=present.record.kind)
        actual = present.record.version if present else 0
        if expected is not None and expected != actual:
            raise ConflictError(record.kind, record.id, expected=expected, actual=actual)
        former = present.record if present else None
        if record.lengths or record.parts:
            check_parts(record, former.lengths if former else {})
        document = _parsed(record, record.data)
        self._check_slug(kind, record)
        position = present.record.position if present else self._state.sequence + 1
        saved = saved_as(record, version=actual + 1, now=self._clock.now(), position=position)
        whole = replace(saved, parts=_merged(record, former))
        self._state.put(record.id, _entry(kind, whole, document))
        if archive is not None:
            self._archive(saved, archive)
        if present is None:
            self._state.note(Operation.CREATED, saved)
        else:
            self._state.note(Operation.UPDATED, saved, present.record.labels)
        return _copy(saved)

    def delete(self, kind: str, id: str, *, expected: int | None = None) -> Record:
        """As `Transaction.delete`."""
        record = self._entry(kind, id).record
        if expected is not None and expected != record.version:
            raise ConflictError(kind, id, expected=expected, actual=record.version)
        self._state.put(id, None)
        self._state.put_archive(id, [])
        self._state.note(Operation.DELETED, record)
        return record

    def delete_kind(self, kind: str) -> int:
        """As `Transaction.delete_kind`."""
        self._check(kind)
        entries = [entry for entry in self._state.entries.values() if entry.record.kind == kind]
        for entry in sorted(entries, key=lambda entry: entry.record.position):
            self.delete(kind, entry.record.id)
        return len(entries)

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
        entries = self.history(kind, id)
        filters = archive_filters(version=version, number=number, tag=tag, hash=hash)
        for entry in entries:
            if all(getattr(entry, name) == value for name, value in filters.items()):
                return entry
        raise NotFoundError(kind, id, " and ".join(f"{name} {value!r}" for name, value in filters.items()))

    def archived_hashes(self) -> frozenset[str]:
        """As `Reader.archived_hashes`."""
        return frozenset(entry.hash for entries in self._state.archive.values() for entry in entries if entry.hash)

    def history(self, kind: str, id: str) -> tuple[HistoryEntry, ...]:
        """Return all of the resource's history, newest first."""
        self._check(kind)
        return tuple(entry for entry in reversed(self._state.archive.get(id, ())) if entry.kind == kind)

    def _archive(self, record: Record, archive: Archive) -> None:
        assert record.updated_at is not None  # noqa: S101 # saved_as sets it
        former = self._state.archive.get(record.id, [])
        entry = HistoryEntry(
            kind=record.kind,
            id=record.id,
            version=record.version,
            number=former[-1].number + 1 if former else 1,
            data=record.data if archive.data is None else archive.data,
            wire=record.wire if archive.data is None else archive.wire,
            event=archive.event,
            tag=archive.tag,
            hash=archive.hash,
            actor=archive.actor,
            message=archive.message,
            archived_at=record.updated_at,
        )
        self._state.put_archive(record.id, [*former, entry])

    def _check_slug(self, kind: Kind, record: Record) -> None:
        if not kind.named or not record.slug:
            return
        for id in self._state.by_slug.get((kind.name, record.slug), ()):
            if id != record.id and self._state.entries[id].record.org_id == record.org_id:
                raise SlugTakenError(kind.name, record.org_id, record.slug, id=id)

    def _entry(self, kind: str, id: str) -> _Entry:
        self._check(kind)
        entry = self._state.entries.get(id)
        if entry is None or entry.record.kind != kind:
            raise NotFoundError(kind, id)
        return entry

    def _check(self, kind: str) -> Kind:
        if self._over:
            raise ClosedError("the transaction is over")
        return self._kinds[kind]


class MemoryStore:
    """A `ResourceStore` that ends with the process. Its transactions run where they are called, one after another."""

    def __init__(self, schemas: Sequence[KindSchema]) -> None:
        """Make an empty store that knows these kinds. Raises: InvalidSchemaError."""
        self._kinds = Kinds(schemas)
        self._state = _State()
        self._clock = Clock()
        self._identity = uuid4().hex
        self._feed = Feed(head=0, read=self._read_changes)

    async def transact(self, work: Callable[[Transaction], T], *, tentative: bool = False) -> T:
        """As `ResourceStore.transact`."""
        transaction = self._verbs()
        before = self._state.sequence
        try:
            result = finished(work(transaction))
        except BaseException:
            self._state.roll_back()
            raise
        finally:
            transaction.end()
        self._feed.publish(self._state.commit(before))
        return result

    async def read(self, work: Callable[[Reader], T]) -> T:
        """As `ResourceStore.read`."""
        return finished(work(self._verbs()))

    async def get(self, kind: str, id: str) -> Record:
        """As `ResourceStore.get`."""
        return self._verbs().get(kind, id)

    async def head(self, kind: str, id: str) -> Record:
        """As `ResourceStore.head`."""
        return self._verbs().head(kind, id)

    async def encoding(self, kind: str, id: str) -> Encoding:
        """As `ResourceStore.encoding`."""
        return self._verbs().encoding(kind, id)

    async def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """As `ResourceStore.find`."""
        return self._verbs().find(kind, org_id=org_id, slug=slug)

    async def list(self, query: Query) -> Page:
        """As `ResourceStore.list`."""
        return self._verbs().list(query)

    async def save(self, record: Record, *, expected: int | None = None, archive: Archive | None = None) -> Record:
        """As `ResourceStore.save`."""
        return await self.transact(lambda tx: tx.save(record, expected=expected, archive=archive))

    async def delete(self, kind: str, id: str, *, expected: int | None = None) -> Record:
        """As `ResourceStore.delete`."""
        return await self.transact(lambda tx: tx.delete(kind, id, expected=expected))

    async def delete_kind(self, kind: str) -> int:
        """As `ResourceStore.delete_kind`."""
        return await self.transact(lambda tx: tx.delete_kind(kind))

    async def history(
        self, kind: str, id: str, *, before: int | None = None, limit: int | None = None, documents: bool = True
    ) -> tuple[HistoryEntry, ...]:
        """As `ResourceStore.history`."""
        entries = self._verbs().history(kind, id)
        wanted = [entry for entry in entries if before is None or entry.number < before][:limit]
        return tuple(entry if documents else replace(entry, data="", wire=None) for entry in wanted)

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
        return self._verbs().archived(kind, id, version=version, number=number, tag=tag, hash=hash)

    def watch(self, *, after: int | None = None, kinds: Sequence[str] = (), id: str = "") -> Changes:
        """As `ResourceStore.watch`."""
        self._check_open()
        for kind in kinds:
            _ = self._kinds[kind]
        return self._feed.watch(after=after, kinds=kinds, id=id)

    async def last_sequence(self) -> int:
        """As `ResourceStore.last_sequence`."""
        self._check_open()
        return self._state.sequence

    async def identity(self) -> str:
        """As `ResourceStore.identity`."""
        self._check_open()
        return self._identity

    async def compact(self, *, keep: int, limit: int | None = None) -> int:
        """As `ResourceStore.compact`."""
        self._check_open()
        check_compaction(keep, limit)
        surplus = max(len(self._state.changes) - keep, 0)
        dropped = surplus if limit is None else min(surplus, limit)
        del self._state.changes[:dropped]
        return dropped

    async def close(self) -> None:
        """As `ResourceStore.close`."""
        self._feed.close()

    async def __aenter__(self) -> MemoryStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._feed.closed:
            raise ClosedError("the store is closed")

    def _verbs(self) -> _MemoryTransaction:
        self._check_open()
        return _MemoryTransaction(self._state, self._kinds, self._clock)

    async def _read_changes(self, after: int, limit: int) -> Sequence[Change]:
        changes = self._state.changes
        begin = after - (changes[0].sequence - 1) if changes else 0
        return changes[max(begin, 0) : max(begin, 0) + limit]


def _entry(kind: Kind, record: Record, document: object) -> _Entry:
    name = _NAME.read(document)
    if isinstance(name, str) and (problem := flaw(name.replace("\0", ""))):
        raise InvalidRecordError(f"$.metadata.name of {record.kind} {record.id[:200]!r} {problem}")
    indexed = {index: path.read(document) for index, path in kind.indexes.items()}
    return _Entry(record, search_text(record.slug, name, record.id), indexed)


def _matches(entry: _Entry, query: Query, accepted: dict[str, tuple[str | int, ...]]) -> bool:
    record, orgs = entry.record, organizations(query)
    return (
        record.kind == query.kind
        and (orgs is None or record.org_id in orgs)
        and query.project_id in (None, record.project_id)
        and query.slug in ("", record.slug)
        and record.position > query.created_after
        and query.labels.items() <= record.labels.items()
        and all(term.matches(record.labels) for term in query.selector)
        and all(entry.indexed[name] in values for name, values in accepted.items())
        and query.text.casefold() in entry.search
    )


def _is_beyond(entry: _Entry, query: Query, after: int) -> bool:
    return entry.record.position < after if query.newest_first else entry.record.position > after


def _copy(record: Record) -> Record:
    # Labels are the one part a caller could change from under the store.
    return replace(record, labels=dict(record.labels), lengths=dict(record.lengths))


def _merged(record: Record, former: Record | None) -> tuple[Part, ...]:
    """Return all parts of a record: those that are given, and those that stay as they were."""
    parts = {(part.path, part.position): part for part in (former.parts if former else ())}
    for part in record.parts:
        _ = _parsed(record, part.data)
        parts[part.path, part.position] = part if part.wire is None else part._replace(data="")
    kept = (place for place in sorted(parts) if place[1] < record.lengths.get(place[0], 0))
    return tuple(parts[place] for place in kept)


def _parsed(record: Record, data: str) -> object:
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidRecordError(f"data of {record.kind} {record.id[:200]!r} is not JSON text: {error}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
