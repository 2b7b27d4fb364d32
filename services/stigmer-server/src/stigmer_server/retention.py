"""Removes finished executions that nobody wants to keep: those that ended long ago, and those beyond a number.

Small transactions, one after the other, so that nobody waits for long; whoever watches is told of each. What has not
ended is never touched, whatever its age. Sessions that were made for single executions go with the last of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime

from loguru import logger
from stigmer_sqlite.errors import ClosedError, StoreError
from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import Query, Record

from stigmer_server.calls import Call
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, at_path
from stigmer_server.resources import Resources
from stigmer_server.unit import Unit, wire_of

EVERY_SECONDS = 600.0
_BATCH = 20
_BREATH_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Which finished executions stay; 0 sets no limit."""

    days: float = 0.0
    """Those that ended within so many days."""
    count: int = 0
    """Of each kind, the newest so many."""

    @property
    def limited(self) -> bool:
        """Whether any has to go at some time."""
        return bool(self.days or self.count)


async def prune(resources: Resources, kept: Kept, *, dry_run: bool = False, now: float | None = None) -> Counter[str]:
    """Remove the finished executions that are not to be kept, and return how many resources of each kind that were.

    Args:
        resources: Where they are.
        kept: What is to be kept.
        dry_run: Only tell.
        now: The present, in seconds since the epoch.

    Raises:
        StoreError: The database cannot be read or written; what was removed before stays so.
    """
    used = resources.on_behalf_of(Call(dry_run=True)) if dry_run else resources
    removed: Counter[str] = Counter()
    if not kept.limited:
        return removed
    for kind in resources.kinds.values():
        if kind.phases is None:
            continue
        batch: list[str] = []
        async for id in _superfluous(resources, kind, kept, time.time() if now is None else now):
            batch.append(id)
            if len(batch) == _BATCH:
                removed += await _remove(used, kind, batch)
                batch = []
                await asyncio.sleep(_BREATH_SECONDS)
        removed += await _remove(used, kind, batch)
    return removed


async def keep_pruned(resources: Resources, kept: Kept) -> None:
    """Prune every ten minutes, until cancelled or the store is closed. A failure is logged and tried again later."""
    while kept.limited:
        try:
            if removed := await prune(resources, kept):
                told = ", ".join(f"{count} {name}" for name, count in sorted(removed.items()))
                logger.info("removed what is not to be kept of finished executions: {}", told)
        except ClosedError:
            return
        except StoreError as error:
            logger.warning("finished executions could not be removed, and stay for now: {}", error)
        await asyncio.sleep(EVERY_SECONDS)


async def _superfluous(resources: Resources, kind: Kind, kept: Kept, now: float) -> AsyncIterator[str]:
    """Yield the ids of finished executions that are not to be kept, oldest first."""
    finished = [name for name in kind.phase_names if name not in kind.unfinished]
    query = Query(kind=kind.name, where={"phase": finished}, newest_first=False, limit=_BATCH)
    total = (await resources.store.list(replace(query, limit=1, count=True))).total or 0
    excess = max(0, total - kept.count) if kept.count else 0
    oldest = now - kept.days * 86_400 if kept.days else 0.0
    async for record in stored_records(resources.store, query):
        ended, created = _times(kind, record)
        if excess > 0 or ended < oldest:
            excess -= 1
            yield record.id
        elif created >= oldest:
            return  # Those that follow were made later, and ended later still.


def _times(kind: Kind, record: Record) -> tuple[float, float]:
    """Return when an execution ended and when it was made; where it does not say, it ended when it was last written."""
    status = kind.parse(wire_of(record)).status
    made = status.audit.spec_audit.created_at.ToNanoseconds() / 1e9
    try:
        return datetime.fromisoformat(status.completed_at).timestamp(), made
    except ValueError:
        return record.updated_at.timestamp() if record.updated_at is not None else made, made


async def _remove(resources: Resources, kind: Kind, ids: list[str]) -> Counter[str]:
    def work(unit: Unit) -> Counter[str]:
        removed: Counter[str] = Counter()
        for id in ids:
            if not unit.exists(kind.name, id):
                continue
            message = unit.require(kind.name, id)
            if not kind.is_finished(message):
                continue  # Recovered since it was found.
            unit.delete(kind, id)
            removed[kind.name] += 1
            removed += _remove_parents(unit, kind, message)
        return removed

    return await resources.transact_runs(work) if ids else Counter()


def _remove_parents(unit: Unit, kind: Kind, message: Message) -> Counter[str]:
    """Remove what existed only for the execution's sake, unless another one needs it."""
    removed: Counter[str] = Counter()
    for parent in kind.parents:
        id, owner = at_path(message, parent.path), unit.kinds[parent.kind]
        if not unit.exists(owner.name, id) or not owner.incidental(unit.require(owner.name, id)):
            continue
        if next(unit.records(kind.name, {parent.index: id}), None) is None:
            unit.delete(owner, id)
            removed[owner.name] += 1
    return removed
