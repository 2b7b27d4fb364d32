"""Follows the events as they are published, and has everything woken that waits for one.

It keeps the place up to which it has done so, and goes on there after a restart. Doing it twice for an event is
harmless: who was woken by it waits for later ones only.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import Change, KindSchema, Query, Record, Transaction

from stigmer_server import change_feed, cloud_events, event_listeners
from stigmer_server.resources import Resources

SCHEMA = KindSchema(kind="event_dispatch", named=False)
"""The store's kind of the one record that says how far it is."""
_ID = "event_dispatch"
_BATCH = 100


async def dispatch(resources: Resources) -> None:
    """Do so until the store closes. A failure is logged, and the rest is done a little later."""
    place = -1

    async def look() -> None:
        nonlocal place
        place = await _catch_up(resources, await _begin(resources))

    async def hear(_: Change) -> None:
        nonlocal place
        place = await _catch_up(resources, place)

    await change_feed.follow(
        lambda: resources.store.watch(kinds=(cloud_events.EVENT,)), look, hear, what="who waits for which event"
    )


async def _begin(resources: Resources) -> int:
    """Return the place to go on at; where there is none yet, nobody waits for what came before."""
    try:
        return int(orjson.loads((await resources.store.get(SCHEMA.kind, _ID)).data)["place"])
    except NotFoundError:
        place = await resources.store.last_sequence()
        await resources.store.transact(lambda transaction: _keep(transaction, place))
        return place


async def _catch_up(resources: Resources, place: int) -> int:
    """Have everybody woken whom events beyond a place concern; return the place of the last one."""
    query = Query(kind=cloud_events.EVENT, created_after=place, newest_first=False, limit=_BATCH)
    while records := (await resources.store.list(query)).records:
        for record in records:
            await _wake(resources, record)
        place = records[-1].position
        await resources.store.transact(lambda transaction, at=place: _keep(transaction, at))
        query = replace(query, created_after=place)
    return place


async def _wake(resources: Resources, record: Record) -> None:
    event = orjson.loads(record.data)
    types = [event["type"], event_listeners.EVERY_TYPE]
    waiting = Query(kind=event_listeners.SCHEMA.kind, org_id=record.org_id, where={"type": types}, limit=1)
    if not (await resources.store.list(waiting)).records:
        return
    cursor = await resources.transact(lambda unit: event_listeners.wake(unit, record.org_id, event, record.position))
    while cursor:
        cursor = await resources.transact(
            lambda unit, at=cursor: event_listeners.wake(unit, record.org_id, event, record.position, cursor=at)
        )


def _keep(transaction: Transaction, place: int) -> None:
    transaction.save(Record(kind=SCHEMA.kind, id=_ID, data=orjson.dumps({"place": place}).decode()))
