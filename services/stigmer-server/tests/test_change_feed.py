"""Those who follow the change feed: they begin anew after whatever fault, and end with the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from stigmer_sqlite.errors import ClosedError, CompactedError, StoreUnavailableError

from stigmer_server.change_feed import follow
from stigmer_server.engine.port import AwayError


class Feed:
    """A feed of which each watch tells one change, and then fails or ends as is said."""

    def __init__(self, *ends: Exception | None) -> None:
        self._ends = list(ends)
        self.told: list[str] = []

    async def watch(self) -> AsyncIterator[str]:
        end = self._ends.pop(0)
        yield "change"
        if end is not None:
            raise end

    async def look(self) -> None:
        self.told.append("all")

    async def hear(self, change: str) -> None:
        self.told.append(change)

    async def follow(self, *through: type[Exception]) -> None:
        async with asyncio.timeout(10):
            await follow(self.watch, self.look, self.hear, what="all of it", pause=0, through=through)


async def test_after_a_fault_everything_is_looked_at_anew_and_further_changes_are_heard() -> None:
    feed = Feed(CompactedError(1), StoreUnavailableError("broken disk"), ValueError("a fault of ours"), None)
    await feed.follow()
    assert feed.told == ["all", "change"] * 4


async def test_it_ends_with_the_store() -> None:
    feed = Feed(ClosedError("closed"))
    await feed.follow()
    assert feed.told == ["all", "change"]


async def test_an_error_that_is_for_the_caller_ends_it() -> None:
    with pytest.raises(AwayError):
        await Feed(AwayError("Temporal is away")).follow(AwayError)
