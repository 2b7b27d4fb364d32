"""Drops events that are old or too many, the oldest first and a few at a time, and remembers up to where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import orjson
from loguru import logger
from stigmer_sqlite.errors import ClosedError, StoreError
from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import Query, Record, ResourceStore, Transaction

from stigmer_server import cloud_events

INTERVAL_SECONDS = 15.0
_STEP = 100
_BREATH_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which events are kept: those that are both young and among the newest of their organization."""

    count: int
    age: timedelta


async def retain(store: ResourceStore, retention: Retention) -> None:
    """Drop events time and again, until the store closes. A failure is logged, and the rest is tried again later."""
    newest: dict[str, int] = {}
    while True:
        try:
            async for org in _organizations(store):
                surplus = await _surplus(store, org, retention.count, newest)
                if dropped := await _drop(store, org, surplus, datetime.now(UTC) - retention.age):
                    logger.debug("dropped {} events of organization {!r}", dropped, org)
        except ClosedError:
            return
        except StoreError as error:
            newest.clear()
            logger.warning("old events could not be dropped, and stay for now: {}", error)
        await asyncio.sleep(INTERVAL_SECONDS)


async def _organizations(store: ResourceStore) -> AsyncIterator[str]:
    query = Query(kind=cloud_events.LOG, newest_first=False, limit=200)
    async for record in stored_records(store, query):
        yield record.org_id


async def _surplus(store: ResourceStore, org: str, keep: int, newest: dict[str, int]) -> int:
    """Return how many events are too many; they are counted only where there is a newer one than the last time."""
    query = Query(kind=cloud_events.EVENT, org_id=org, limit=1)
    page = await store.list(query)
    position = page.records[0].position if page.records else 0
    if newest.get(org) == position:
        return 0
    counted = await store.list(replace(query, count=True))
    newest[org] = position
    return (counted.total or 0) - keep


async def _drop(store: ResourceStore, org: str, surplus: int, before: datetime) -> int:
    dropped = 0
    while step := await store.transact(lambda tx: _drop_some(tx, org, surplus - dropped, before)):  # noqa: B023 - run at once
        dropped += step
        await asyncio.sleep(_BREATH_SECONDS)
    return dropped


def _drop_some(transaction: Transaction, org: str, surplus: int, before: datetime) -> int:
    """Drop some of the oldest events that are too many or too old, and note up to where; return how many."""
    oldest = transaction.list(Query(kind=cloud_events.EVENT, org_id=org, newest_first=False, limit=_STEP)).records
    gone: list[Record] = []
    for at, record in enumerate(oldest):
        if at >= surplus and record.updated_at is not None and record.updated_at >= before:
            break
        gone.append(record)
    for record in gone:
        transaction.delete(cloud_events.EVENT, record.id)
    if gone:
        log = transaction.get(cloud_events.LOG, cloud_events.log_id(org))
        data = orjson.dumps({"dropped": gone[-1].position}).decode()
        transaction.save(replace(log, data=data))
    return len(gone)
