"""Give a run the next events that it may want, or have it woken when there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import Query, Reader, Record

from stigmer_server import cloud_events, event_listeners, executions, parts
from stigmer_server.errors import MissingError, RefusedError
from stigmer_server.event_listeners import Pattern
from stigmer_server.resources import Resources
from stigmer_server.unit import Unit

_MOST_EVENTS = 50
_MOST_BYTES = 512 * 1024
"""What one answer holds, unless a single event is larger: the run keeps it in its history."""
_LOOKED_THROUGH = 1000
"""How many events are looked through at once for patterns that no index finds."""
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is for a run."""

    events: Sequence[tuple[str, int]]
    """The JSON form and the place of each, in order."""
    position: int
    """The place up to which was looked."""
    waiting: bool = False
    """Whether there is nothing more, and the listener is woken once there is."""


async def receive_events(
    resources: Resources, execution_id: str, listener: str, patterns: Sequence[Pattern], after: int
) -> Found:
    """Return the next events of the execution's organization that fit a pattern and were published since it began.

    Args:
        resources: The resources, on behalf of a runner.
        execution_id: The execution whose run asks.
        listener: Who of the run is woken.
        patterns: What it may want; none for every event.
        after: The place up to which it knows all of them.

    Raises:
        MissingError: There is no such execution.
        RefusedError: The execution has ended.
    """
    kind = resources.kinds["workflow_execution"]

    def work(unit: Unit) -> Found:
        try:
            execution = unit.transaction.head(kind.name, execution_id)
        except NotFoundError as error:
            raise MissingError.of(kind.title, execution_id) from error
        stored = kind.parse(parts.head(execution))
        if kind.is_finished(stored):
            raise RefusedError(executions.has_ended(kind, stored, "hears no more events"))
        start = max(after, execution.position)
        found = look(unit.reader, execution.org_id, patterns, start)
        if found.waiting:
            event_listeners.arm(unit.transaction, execution.org_id, execution_id, listener, patterns, found.position)
        return found

    return await resources.transact(work)


def look(reader: Reader, org: str, patterns: Sequence[Pattern], after: int) -> Found:
    """Return the next events of an organization that fit a pattern; waiting: there are none."""
    newest = reader.list(Query(kind=cloud_events.EVENT, org_id=org, limit=1)).records
    last = newest[0].position if newest else 0
    if last <= after:
        return Found(events=(), position=after, waiting=True)
    exact = bool(patterns) and all(pattern.exact for pattern in patterns)
    query = Query(
        kind=cloud_events.EVENT,
        org_id=org,
        where={"type": sorted({pattern.type for pattern in patterns})} if exact else {},
        created_after=after,
        newest_first=False,
        limit=_MOST_EVENTS if exact else _PAGE,
    )
    found: list[tuple[str, int]] = []
    size, looked, position = 0, 0, after
    while True:
        page = reader.list(query)
        for record in page.records:
            if _is_meant(record, patterns):
                size += len(record.data)
                if len(found) >= _MOST_EVENTS or (found and size > _MOST_BYTES):
                    return Found(events=found, position=position)
                found.append((record.data, record.position))
            position = record.position
        looked += len(page.records)
        if not page.next_cursor:
            position = max(position, last)
            return Found(events=found, position=position, waiting=not found)
        if looked >= _LOOKED_THROUGH:
            return Found(events=found, position=position)
        query = replace(query, cursor=page.next_cursor)


def _is_meant(record: Record, patterns: Sequence[Pattern]) -> bool:
    if not patterns:
        return True
    event = orjson.loads(record.data)
    return any(pattern.fits(event) for pattern in patterns)
