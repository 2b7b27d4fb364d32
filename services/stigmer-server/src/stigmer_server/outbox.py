"""What has to be done to a run because of what was committed, kept beside it until it is done.

An entry is written in the transaction that makes it necessary, so neither is ever there without the other. The
engine carries the entries of one execution out in the order in which they were written, as often as it takes, and
removes each when it is done; one that somebody may ask for again stays for a while, to be known again.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson
from pydantic import TypeAdapter
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.paging import records, stored_records
from stigmer_sqlite.port import KindSchema, Query, Record, ResourceStore, Transaction

from stigmer_server import naming

SCHEMA = KindSchema(kind="execution_delivery", named=False, indexes={"execution": "$.execution", "state": "$.state"})
"""The store's kind of entries; no resource of anybody's."""
REMEMBERED_SECONDS = 24 * 3600
"""How long something that was asked for by a key, or decided, is known again."""


class Action(StrEnum):
    """What is to be done."""

    START = "start"
    """Start the run; written where there is a trace that it is to belong to, for a start is due without it."""
    SIGNAL = "signal"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    COMPLETE = "complete"
    """Complete the activity that waits for the execution."""


class State(StrEnum):
    """How far an entry is."""

    WAITING = "waiting"
    """Nothing is to be done before the execution ends."""
    DUE = "due"
    DONE = "done"
    """Done, and only kept so that it is known again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One thing to be done to one execution's run."""

    id: str
    kind: str
    """The kind of the execution."""
    execution: str
    action: Action
    state: State = State.DUE
    run: str = ""
    """Id of the Temporal workflow; empty for what concerns another."""
    name: str = ""
    """Of a signal."""
    payload: Any = None
    """Any JSON value."""
    trace: str = ""
    """The place in a trace of the call that asked for it, as `traceparent` says it; empty: it belongs to none."""
    digest: str = ""
    """Hash of what was asked for, by which the same is told from something else."""
    expires: float = 0
    """Seconds since the epoch until which it is kept after it was done; 0: not at all."""


class Outbox:
    """The entries as one transaction sees and writes them."""

    def __init__(self, transaction: Transaction, *, trace: str = "") -> None:
        """Write in a transaction; `trace`: the place in a trace of the call that it is for."""
        self._transaction = transaction
        self.trace = trace
        self.touched: set[tuple[str, str]] = set()
        """Executions (kind, id) for which something has become due."""

    def post(self, delivery: Delivery) -> None:
        """Write an entry, or write it anew; it keeps its place in the order."""
        if self.trace and not delivery.trace:
            delivery = replace(delivery, trace=self.trace)
        self._transaction.save(_record(delivery))
        if delivery.state is State.DUE:
            self.touched.add((delivery.kind, delivery.execution))

    def find(self, id: str) -> Delivery | None:
        """Return an entry, if it is there."""
        try:
            return _delivery(self._transaction.get(SCHEMA.kind, id))
        except NotFoundError:
            return None

    def of(self, execution: str, *states: State) -> Iterator[Delivery]:
        """Yield the entries of an execution, in order; all of them, or those that are so far."""
        query = _query(execution, states or tuple(State))
        return map(_delivery, records(self._transaction, query))

    def remove(self, delivery: Delivery) -> None:
        """Remove an entry; one that is gone already is no fault."""
        try:
            self._transaction.delete(SCHEMA.kind, delivery.id)
        except NotFoundError:
            return

    def done(self, delivery: Delivery) -> None:
        """Note that an entry was carried out; its payload is needed no more."""
        found = self.find(delivery.id)
        if found is None or found.state is not State.DUE:
            return
        if found.expires:
            self.post(replace(found, state=State.DONE, payload=None))
        else:
            self.remove(found)


async def due_of(store: ResourceStore, execution: str) -> tuple[Delivery, ...]:
    """Return what is to be done for an execution, in order; when there is very much, the first part of it."""
    page = await store.list(_query(execution, (State.DUE,)))
    return tuple(_delivery(record) for record in page.records)


async def all_due(store: ResourceStore) -> AsyncIterator[Delivery]:
    """Yield everything that is to be done."""
    query = Query(kind=SCHEMA.kind, where={"state": State.DUE.value}, newest_first=False, limit=200)
    async for record in stored_records(store, query):
        yield _delivery(record)


async def forget(store: ResourceStore, now: float) -> int:
    """Remove what was done and has been known long enough; return how many entries that were."""
    removed = 0
    while True:
        query = Query(kind=SCHEMA.kind, where={"state": State.DONE.value}, newest_first=False, limit=200)
        page = await store.list(query)
        old = [record.id for record in page.records if _delivery(record).expires < now]
        if not old:
            return removed

        def work(transaction: Transaction, ids: list[str] = old) -> None:
            for id in ids:
                transaction.delete(SCHEMA.kind, id)

        await store.transact(work)
        removed += len(old)


def new_id() -> str:
    """Return the id of an entry that nobody will name again."""
    return naming.new_id("dlv")


def digest_of(value: Any) -> str:
    """Return the hash of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def named_id(execution: str, *names: str) -> str:
    """Return the id of an entry that is found again by names, which may be anything."""
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]
    return f"{execution}/{digest}"


def _query(execution: str, states: tuple[State, ...]) -> Query:
    where = {"execution": execution, "state": [state.value for state in states]}
    return Query(kind=SCHEMA.kind, where=where, newest_first=False, limit=200)


def encoded(delivery: Delivery) -> bytes:
    """Return an entry as it is stored."""
    return _codec.dump_json(delivery)


def decoded(data: str | bytes) -> Delivery:
    """Return the entry that is stored so."""
    return _codec.validate_json(data)


def _record(delivery: Delivery) -> Record:
    data = encoded(delivery)
    # What holds a secret has an encoding, too: by those whoever rotates keys finds what has to be sealed anew.
    wire = data if delivery.action is Action.COMPLETE else None
    return Record(kind=SCHEMA.kind, id=delivery.id, data=data.decode(), wire=wire)


def _delivery(record: Record) -> Delivery:
    return decoded(record.data)


_codec = TypeAdapter(Delivery)
