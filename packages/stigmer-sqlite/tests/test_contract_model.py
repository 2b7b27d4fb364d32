"""The contract, over every store: random histories of verbs, compared with the simplest model that could be right."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from stigmer_sqlite import (
    Archive,
    ConflictError,
    KindSchema,
    MemoryStore,
    NotFoundError,
    Operation,
    Part,
    Query,
    Record,
    ResourceStore,
    SlugTakenError,
    SqliteStore,
    Transaction,
)

SCHEMAS = (
    KindSchema(kind="agent", indexes={"phase": "$.phase"}),
    KindSchema(kind="run", named=False, indexes={"phase": "$.phase"}),
)
IDS = st.sampled_from(["1", "2", "3", "4"])
KINDS = st.sampled_from(["agent", "run"])
ORGS = st.sampled_from(["", "o"])
SLUGS = st.sampled_from(["", "x", "y"])
PHASES = st.sampled_from(["new", "old"])
LABELS = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["0", "1"]))
LENGTHS = st.dictionaries(st.sampled_from(["$.s.x", "$.s.y"]), st.integers(0, 3))


class Model(RuleBasedStateMachine):
    """Drives a store and a dictionary alike."""

    def __init__(self, open_store: Callable[[Path, Any], Any], *, reopens: bool) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.open_store = open_store
        self.reopens = reopens
        self.store: ResourceStore = self.open()
        self.records: dict[str, Record] = {}  # in creation order
        self.history: dict[str, list[int]] = {}
        self.changes: list[tuple[Operation, str, int]] = []

    def open(self) -> ResourceStore:
        store: ResourceStore = self.runner.run(self.open_store(Path(self.folder.name) / "s.db", SCHEMAS))
        return store

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    def merged(self, record: Record) -> tuple[Part, ...]:
        former = self.records[record.id].parts if record.id in self.records else ()
        parts = {(part.path, part.position): part for part in (*former, *record.parts)}
        return tuple(part for (path, place), part in sorted(parts.items()) if place < record.lengths.get(path, 0))

    def slug_holder(self, record: Record) -> str | None:
        for other in self.records.values():
            same = (other.kind, other.org_id, other.slug) == (record.kind, record.org_id, record.slug)
            if same and other.id != record.id and record.slug and record.kind == "agent":
                return other.id
        return None

    def apply(self, record: Record, *, archived: bool) -> None:
        new = record.id not in self.records
        version = 1 if new else self.records[record.id].version + 1
        self.records[record.id] = Record(
            kind=record.kind,
            id=record.id,
            org_id=record.org_id,
            slug=record.slug,
            data=record.data,
            labels=record.labels,
            lengths=record.lengths,
            parts=self.merged(record),
            version=version,
        )
        if archived:
            self.history.setdefault(record.id, []).insert(0, version)
        self.changes.append((Operation.CREATED if new else Operation.UPDATED, record.id, version))

    @rule(
        kind=KINDS,
        id=IDS,
        org=ORGS,
        slug=SLUGS,
        phase=PHASES,
        labels=LABELS,
        lengths=LENGTHS,
        changed=st.sets(st.integers(0, 2)),
        archived=st.booleans(),
        expected=st.sampled_from([None, None, 0, 1, 2]),
    )
    def save(  # the fields of a record
        self,
        *,
        kind: str,
        id: str,
        org: str,
        slug: str,
        phase: str,
        labels: dict[str, str],
        lengths: dict[str, int],
        changed: set[int],
        archived: bool,
        expected: int | None,
    ) -> None:
        id = f"{kind}{id}"
        data = json.dumps({"phase": phase, "s": {}})
        former = self.records[id].lengths if id in self.records else dict[str, int]()
        parts = tuple(
            Part(path=path, position=place, key=phase, data=json.dumps(len(self.changes)))
            for path, length in lengths.items()
            for place in range(length)
            if place in changed or place >= former.get(path, 0)
        )
        record = Record(kind=kind, id=id, org_id=org, slug=slug, data=data, labels=labels, lengths=lengths, parts=parts)
        archive = Archive(data="{}") if archived else None
        saving = self.store.save(record, expected=expected, archive=archive)
        actual = self.records[id].version if id in self.records else 0
        if expected is not None and expected != actual:
            with pytest.raises(ConflictError):
                self.runner.run(saving)
        elif holder := self.slug_holder(record):
            with pytest.raises(SlugTakenError) as failure:
                self.runner.run(saving)
            assert failure.value.id == holder
        else:
            saved = self.runner.run(saving)
            self.apply(record, archived=archived)
            assert saved.version == self.records[id].version

    @rule(kind=KINDS, id=IDS)
    def delete(self, kind: str, id: str) -> None:
        id = f"{kind}{id}"
        if id not in self.records:
            with pytest.raises(NotFoundError):
                self.runner.run(self.store.delete(kind, id))
            return
        self.runner.run(self.store.delete(kind, id))
        self.changes.append((Operation.DELETED, id, self.records.pop(id).version))
        self.history.pop(id, None)

    @rule(kind=KINDS)
    def delete_kind(self, kind: str) -> None:
        gone = [record for record in self.records.values() if record.kind == kind]
        assert self.runner.run(self.store.delete_kind(kind)) == len(gone)
        for record in gone:
            self.changes.append((Operation.DELETED, record.id, record.version))
            del self.records[record.id]
            self.history.pop(record.id, None)

    @rule(phase=PHASES, fails=st.booleans())
    def rewrite_all(self, *, phase: str, fails: bool) -> None:
        def work(tx: Transaction) -> list[Record]:
            present = [record for kind in ("agent", "run") for record in tx.list(Query(kind=kind)).records]
            rewritten = [
                Record(
                    kind=record.kind,
                    id=record.id,
                    org_id=record.org_id,
                    slug=record.slug,
                    labels=record.labels,
                    data=json.dumps({"phase": phase}),
                )
                for record in present
            ]
            for record in rewritten:
                tx.save(record)
            if fails:
                raise LookupError
            return rewritten

        if fails:
            with pytest.raises(LookupError):
                self.runner.run(self.store.transact(work))
        else:
            for record in self.runner.run(self.store.transact(work)):
                self.apply(record, archived=False)

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.open()

    @rule(kind=KINDS, org=st.none() | ORGS, phase=st.none() | PHASES, labels=LABELS, newest_first=st.booleans())
    def lists_agree(
        self, *, kind: str, org: str | None, phase: str | None, labels: dict[str, str], newest_first: bool
    ) -> None:
        expected = [
            record.id
            for record in self.records.values()
            if record.kind == kind
            and org in (None, record.org_id)
            and (phase is None or json.loads(record.data)["phase"] == phase)
            and labels.items() <= record.labels.items()
        ]
        if newest_first:
            expected.reverse()
        where = {} if phase is None else {"phase": phase}
        seen: list[str] = []
        cursor = ""
        while True:
            query = Query(
                kind=kind,
                org_id=org,
                labels=labels,
                where=where,
                newest_first=newest_first,
                limit=2,
                cursor=cursor,
                count=True,
            )
            page = self.runner.run(self.store.list(query))
            assert page.total == len(expected)
            seen += [record.id for record in page.records]
            if not (cursor := page.next_cursor):
                break
        assert seen == expected

    @rule(kind=KINDS, org=st.none() | ORGS, slug=SLUGS)
    def finds_agree(self, *, kind: str, org: str | None, slug: str) -> None:
        matches = [
            record.id
            for record in self.records.values()
            if slug and (record.kind, record.slug) == (kind, slug) and org in (None, record.org_id)
        ]
        found = self.runner.run(self.store.find(kind, org_id=org, slug=slug))
        assert (found.id if found else None) == (matches[-1] if matches else None)

    @invariant()
    def records_and_history_agree(self) -> None:
        for id, record in self.records.items():
            stored = self.runner.run(self.store.get(record.kind, id))
            assert (stored.version, stored.data, stored.labels) == (record.version, record.data, record.labels)
            assert (stored.lengths, stored.parts) == (record.lengths, record.parts)
            entries = self.runner.run(self.store.history(record.kind, id))
            assert [entry.version for entry in entries] == self.history.get(id, [])
            assert [entry.number for entry in entries] == list(range(len(entries), 0, -1))

    @invariant()
    def changes_agree(self) -> None:
        assert self.runner.run(self.store.last_sequence()) == len(self.changes)
        since = max(0, len(self.changes) - 10)
        watch = self.store.watch(after=since)
        for sequence, (operation, id, version) in enumerate(self.changes[since:], start=since + 1):
            change = self.runner.run(asyncio.wait_for(anext(watch), 10))  # type: ignore[arg-type]
            assert (change.sequence, change.operation, change.id, change.version) == (sequence, operation, id, version)


async def open_memory(_path: Path, schemas: tuple[KindSchema, ...]) -> ResourceStore:
    return MemoryStore(schemas)


async def open_sqlite(path: Path, schemas: tuple[KindSchema, ...]) -> ResourceStore:
    return await SqliteStore.open(path, schemas)


async def open_sqlite_in_memory(_path: Path, schemas: tuple[KindSchema, ...]) -> ResourceStore:
    return await SqliteStore.open(":memory:", schemas)


@pytest.mark.parametrize("open_store", [open_memory, open_sqlite, open_sqlite_in_memory])
def test_random_histories_agree_with_the_model(open_store: Callable[[Path, Any], Any]) -> None:
    class Bound(Model):
        def __init__(self) -> None:
            super().__init__(open_store, reopens=open_store is open_sqlite)

    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
