"""What a store tells of how it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from stigmer_sqlite import ConflictError, Record, SqliteStore

Make = Callable[..., Record]


async def test_commits_and_what_they_held_are_counted(file_store: SqliteStore, agent: Make) -> None:
    await file_store.save(agent("a1"))
    one = file_store.statistics()
    assert (one.commits, one.transactions, one.changes, one.sequence) == (1, 1, 1, 1)
    assert one.commit_seconds > 0
    await asyncio.gather(*(file_store.save(agent(f"b{number}")) for number in range(20)))
    await file_store.transact(lambda tx: [tx.save(agent(f"c{number}")) for number in range(3)])
    many = file_store.statistics()
    assert (many.transactions, many.changes, many.sequence, many.waiting) == (22, 24, 24, 0)
    assert many.commits < 22, "writers that wait share a commit"
    assert (many.failed_commits, many.fault) == (0, "")


async def test_work_that_fails_or_only_reads_is_no_commit(file_store: SqliteStore, agent: Make) -> None:
    await file_store.save(agent("a1"))
    with pytest.raises(ConflictError):
        await file_store.save(agent("a1"), expected=7)
    await file_store.transact(lambda tx: tx.get("agent", "a1"))
    assert (file_store.statistics().commits, file_store.statistics().failed_commits) == (1, 0)


async def test_watches_are_counted_while_somebody_has_them(file_store: SqliteStore) -> None:
    watches = [file_store.watch() for _ in range(3)]
    assert file_store.statistics().watches == 3
    watches.clear()
    assert file_store.statistics().watches == 0
