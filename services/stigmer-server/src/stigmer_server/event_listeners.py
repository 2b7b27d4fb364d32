"""Who waits for events: runs that have looked through all there are, and are woken when there are more.

A listener is a few records, one for each type that it waits for, found by that type: so an event costs one look-up
however many wait for others. It is written in the transaction that finds nothing more for it, and removed in the one
that has it woken; an event is either seen by the one or wakes by the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import KindSchema, Query, Record, Transaction

from stigmer_server import outbox, schedules
from stigmer_server.outbox import Action, Delivery

if TYPE_CHECKING:
    from stigmer_server.unit import Unit

SCHEMA = KindSchema(
    kind="event_listener", named=False, indexes={"type": "$.type", "execution": "$.execution", "listener": "$.listener"}
)
"""The store's kind of what listeners wait for; no resource of anybody's."""
WAKE = "stigmer.event"
"""Name of the signal that wakes a run; it carries the name of the listener."""
EVERY_TYPE = "*"
WOKEN_AT_ONCE = 200
"""How many listeners one transaction has woken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What an index can tell of an event."""

    type: str = ""
    """One that ends in `*` stands for all that begin so; empty: every type."""
    source: str = ""
    """Empty: every source."""

    @property
    def exact(self) -> bool:
        """Whether it is one type, which an index finds."""
        return bool(self.type) and not self.type.endswith("*")

    def fits(self, event: Mapping[str, str]) -> bool:
        """Tell whether an event, in its JSON form, is meant."""
        of_type = self.type in ("", event["type"]) if not self.type.endswith("*") else self._begins(event["type"])
        return of_type and self.source in ("", event["source"])

    def _begins(self, type_: str) -> bool:
        return type_.startswith(self.type[:-1])


def arm(
    transaction: Transaction,
    org: str,
    execution: str,
    listener: str,
    patterns: Sequence[Pattern],
    after: int,
    *,
    schedule: str = "",
) -> None:
    """Have a listener woken by the next event of its patterns that is beyond a place.

    It is one of an execution, or the one of the schedule of a workflow.
    """
    name = f"{execution}/{listener}"
    for number, pattern in enumerate(patterns or (Pattern(),)):
        data = {
            "execution": execution,
            "listener": name,
            "name": listener,
            "type": pattern.type if pattern.exact else EVERY_TYPE,
            "pattern": pattern.type,
            "source": pattern.source,
            "after": after,
            "schedule": schedule,
        }
        record = Record(kind=SCHEMA.kind, id=f"{name}/{number}", org_id=org, data=orjson.dumps(data).decode())
        transaction.save(record)


def wake(unit: Unit, org: str, event: Mapping[str, str], place: int, *, cursor: str = "") -> str:
    """Have some of those woken who wait for an event; return where to go on, empty when all are.

    Args:
        unit: The transaction.
        org: The organization of the event.
        event: The event in its JSON form.
        place: Its place in the order of all.
        cursor: What the call before this one returned.
    """
    types = [event["type"], EVERY_TYPE]
    query = Query(
        kind=SCHEMA.kind, org_id=org, where={"type": types}, newest_first=False, limit=WOKEN_AT_ONCE, cursor=cursor
    )
    page = unit.transaction.list(query)
    woken: dict[str, Mapping[str, str]] = {}
    for record in page.records:
        data = orjson.loads(record.data)
        if place > data["after"] and Pattern(type=data["pattern"], source=data["source"]).fits(event):
            woken[data["listener"]] = data
    for name, data in woken.items():
        _remove(unit.transaction, {"listener": name})
        if data["schedule"]:
            schedules.stir(unit, data["schedule"])
        else:
            unit.outbox.post(_delivery(data))
    return page.next_cursor


def drop(transaction: Transaction, execution: str) -> None:
    """Forget the listeners of an execution."""
    _remove(transaction, {"execution": execution})


def _remove(transaction: Transaction, where: Mapping[str, str]) -> None:
    while records := transaction.list(Query(kind=SCHEMA.kind, where=where, limit=200)).records:
        for record in records:
            try:
                transaction.delete(SCHEMA.kind, record.id)
            except NotFoundError:
                continue


def _delivery(data: Mapping[str, str]) -> Delivery:
    id = outbox.new_id()
    return Delivery(
        id=id,
        kind="workflow_execution",
        execution=data["execution"],
        action=Action.SIGNAL,
        name=WAKE,
        payload={"id": id, "listener": data["name"]},
    )
