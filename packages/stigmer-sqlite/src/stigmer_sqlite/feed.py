"""The change feed's live end: hands each committed change to the watches, and lets a slow one catch up by reading.

Runs on the event loop's thread only, so that a watch never misses a change between looking and waiting.
It keeps a bounded number of changes for each watch; the rest is read again from where the store keeps them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from stigmer_sqlite.errors import ClosedError, CompactedError, InvalidQueryError
from stigmer_sqlite.port import Change

ReadChanges = Callable[[int, int], Awaitable[Sequence[Change]]]
"""Given `after` and `limit`: the changes after that sequence, oldest first."""

_CAPACITY = 1024
_CHUNK = 512


class Feed:
    """Where commits are published and watches are registered."""

    def __init__(self, *, head: int, read: ReadChanges) -> None:
        self.head = head
        """Sequence of the newest published change."""
        self.closed = False
        self.read = read
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()

    @property
    def watches(self) -> int:
        """How many watches there are."""
        return len(self._watches)

    def publish(self, changes: Sequence[Change]) -> None:
        """Hand over what one commit wrote, in order."""
        if not changes:
            return
        self.head = changes[-1].sequence
        for watch in list(self._watches):
            watch.offer(changes)

    def watch(self, *, after: int | None, kinds: Sequence[str], id: str) -> Watch:
        """Register a watch; an abandoned one is forgotten with its last reference."""
        watch = Watch(self, after=self.head if after is None else after, kinds=frozenset(kinds), id=id)
        self._watches.add(watch)
        return watch

    def close(self) -> None:
        """End every watch."""
        self.closed = True
        for watch in list(self._watches):
            watch.wake()


class Watch(AsyncIterator[Change]):
    """One subscriber's place in the feed: the `Changes` of the port."""

    def __init__(self, feed: Feed, *, after: int, kinds: frozenset[str], id: str) -> None:
        self._feed = feed
        self._kinds = kinds
        self._id = id
        # Every change up to here was passed on, is in `_ready`, or did not match.
        self._position = after
        self._ready: deque[Change] = deque()
        self._awake = asyncio.Event()
        self._iterating = False
        self._closed = False

    @property
    def position(self) -> int:
        """As `Changes.position`."""
        return self._ready[0].sequence - 1 if self._ready else self._position

    def close(self) -> None:
        """As `Changes.close`."""
        self._closed = True
        self.wake()

    def offer(self, changes: Sequence[Change]) -> None:
        """Take what one commit wrote, or leave it to be read later when that would exceed the bound."""
        if self._closed:
            return
        if self._position + 1 == changes[0].sequence:
            matching = [change for change in changes if self._matches(change)]
            if len(self._ready) + len(matching) <= _CAPACITY:
                self._ready.extend(matching)
                self._position = changes[-1].sequence
                if not matching:
                    return  # whoever waits would look only to wait again
        self.wake()

    def wake(self) -> None:
        """Let a waiting `anext` look again."""
        self._awake.set()

    async def __anext__(self) -> Change:
        if self._iterating:
            raise RuntimeError("a watch has one reader at a time")
        self._iterating = True
        try:
            return await self._next()
        finally:
            self._iterating = False

    async def _next(self) -> Change:
        while not self._ready:
            if self._closed or self._feed.closed:
                raise StopAsyncIteration
            if self._position > self._feed.head or self._position < 0:
                raise InvalidQueryError(f"no change has had sequence {self._position} (the newest: {self._feed.head})")
            if self._position < self._feed.head:
                await self._catch_up()
            else:
                self._awake.clear()
                await self._awake.wait()
        return self._ready.popleft()

    async def _catch_up(self) -> None:
        try:
            changes = await self._feed.read(self._position, _CHUNK)
        except ClosedError:
            raise StopAsyncIteration from None
        # The feed has no gaps, so a missing successor can only have been compacted away.
        if not changes or changes[0].sequence != self._position + 1:
            raise CompactedError(self._position)
        # Changes beyond the published head are left for `publish`: watchers see nothing before its writer does.
        changes = [change for change in changes if change.sequence <= self._feed.head]
        self._ready.extend(change for change in changes if self._matches(change))
        self._position = changes[-1].sequence

    def _matches(self, change: Change) -> bool:
        return (not self._kinds or change.kind in self._kinds) and (not self._id or change.id == self._id)
