"""Live states of executions: from the store's change feed to everybody who follows.

One task reads the feed. For each execution that somebody follows it loads and encodes the newest state once and
wakes the followers, each of which keeps nothing but that state: a follower that does not read costs no memory. While
nobody is ready for another state of a large execution, none is loaded: the first who is has it loaded for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from loguru import logger
from stigmer_sqlite.errors import NotFoundError, StoreUnavailableError
from stigmer_sqlite.port import Change, Operation, Record, ResourceStore

from stigmer_server import change_feed, parts
from stigmer_server.kinds import Kind, Kinds

_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    version: int
    wire: bytes
    final: bool


_NOTHING = _State(version=0, wire=b"", final=False)


class Follower:
    """One reader of one execution's states; iterate it."""

    def __init__(self, topic: _Topic) -> None:
        self._topic = topic
        self._seen = 0
        self._wake = asyncio.Event()
        topic.followers.add(self)

    def offer(self, record: Record) -> None:
        """Tell the state that was just read from the store; older ones than already known are ignored."""
        self._topic.offer(record)

    @property
    def is_over(self) -> bool:
        """Whether the final state has been given."""
        return self._topic.state.final and self._seen >= self._topic.state.version

    def wake(self) -> None:
        """Look again: there is a newer state, or there will be none."""
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        topic = self._topic
        while True:
            self._wake.clear()
            if topic.told > topic.state.version:
                await topic.catch_up()
            state = topic.state
            if state.version > self._seen:
                self._seen = state.version
                yield state.wire
                if state.final:
                    return
            elif topic.closed:
                return
            else:
                topic.waiting += 1
                try:
                    await self._wake.wait()
                finally:
                    topic.waiting -= 1


class _Topic:
    """An execution that somebody follows."""

    def __init__(self, kind: Kind, id: str, store: ResourceStore, shown: Callable[[Kind, Record], bytes]) -> None:
        self._kind = kind
        self._id = id
        self._store = store
        self._shown = shown
        self._loading = asyncio.Lock()
        self.state = _NOTHING
        self.told = 0
        """The newest version that the feed has told of; the state may be older, until somebody wants the newer one."""
        self.waiting = 0
        """How many followers have nothing to do but to wait for another state."""
        self.closed = False
        self.followers: set[Follower] = set()

    def offer(self, record: Record) -> None:
        """Take a whole record as the state, if it is newer."""
        if self.state.version >= record.version:
            return
        wire = self._shown(self._kind, record)
        self.state = _State(version=record.version, wire=wire, final=self._is_final(record))
        self.told = max(self.told, record.version)
        self.wake()

    async def hear(self, change: Change) -> None:
        """Take in that the execution has changed."""
        if change.operation is Operation.DELETED:
            self.close()
        elif change.version > self.state.version and self.followers:
            # Where it is gone since, the feed tells that next.
            await self._advance()

    async def look(self) -> None:
        """Take in what has happened while the feed told nothing."""
        if not await self._advance():
            self.close()

    async def _advance(self) -> bool:
        """Tell the followers of the newest state; False when the execution is gone."""
        record = await self._read(self._store.head)
        if record is None:
            return False
        self.told = max(self.told, record.version)
        if not record.lengths:
            self.offer(record)
        elif self.waiting or self._is_final(record):
            await self.catch_up()
        return True

    async def catch_up(self) -> None:
        """Load the newest state, unless another follower has had it loaded meanwhile."""
        async with self._loading:
            if self.told > self.state.version:
                record = await self._read(self._store.get)
                if record is None:
                    self.told = self.state.version
                else:
                    self.offer(record)

    def close(self) -> None:
        """Let nobody wait for another state."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Let every follower look again."""
        for follower in self.followers:
            follower.wake()

    def _is_final(self, record: Record) -> bool:
        return self._kind.is_finished(self._kind.parse(parts.head(record)))

    async def _read(self, read: Callable[[str, str], Awaitable[Record]]) -> Record | None:
        """Return the record, None when it is gone; a database that cannot be read is tried again and again."""
        while True:
            try:
                return await read(self._kind.name, self._id)
            except NotFoundError:
                return None
            except StoreUnavailableError as error:
                logger.warning("cannot read {} {} for its followers: {}", self._kind.title, self._id, error)
            await asyncio.sleep(_RETRY_SECONDS)


class Streams:
    """Everybody who follows an execution of this server."""

    def __init__(self, store: ResourceStore, kinds: Kinds, shown: Callable[[Kind, Record], bytes]) -> None:
        """Follow executions in a store; `shown` gives a record as followers may see it."""
        self._store = store
        self._shown = shown
        self._executions = tuple(kind.name for kind in kinds.values() if kind.phases)
        self._topics: dict[tuple[str, str], _Topic] = {}
        self._pump: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to read the change feed; every change committed from now on is told."""
        following = change_feed.follow(
            lambda: self._store.watch(kinds=self._executions),
            self._look,
            self._hear,
            what="what is told to followers of executions",
            pause=_RETRY_SECONDS,
        )
        self._pump = asyncio.create_task(following, name="streams")

    async def _look(self) -> None:
        for topic in tuple(self._topics.values()):
            await topic.look()

    async def _hear(self, change: Change) -> None:
        topic = self._topics.get((change.kind, change.id))
        if topic is not None:
            await topic.hear(change)

    @contextmanager
    def follow(self, kind: Kind, id: str) -> Generator[Follower]:
        """Register a reader of an execution; states are told to it from here on."""
        key = (kind.name, id)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = _Topic(kind, id, self._store, self._shown)
        topic.closed = topic.closed or self._stopped
        follower = Follower(topic)
        try:
            yield follower
        finally:
            topic.followers.discard(follower)
            if not topic.followers and self._topics.get(key) is topic:
                del self._topics[key]

    @property
    def followers(self) -> int:
        """How many readers there are."""
        return sum(len(topic.followers) for topic in self._topics.values())

    @property
    def followed(self) -> int:
        """How many executions they follow."""
        return len(self._topics)

    def stop(self) -> None:
        """End every stream after the states that are known, and start no new ones."""
        self._stopped = True
        for topic in self._topics.values():
            topic.close()

    async def close(self) -> None:
        """Stop, and stop reading the feed."""
        self.stop()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
