"""Live states of executions: from the store's change feed to everybody who follows.

One task reads the feed. For each execution that somebody follows it loads and encodes the newest state once and
wakes the followers, each of which keeps nothing but that state: a follower that does not read costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from loguru import logger
from stigmer_sqlite.errors import NotFoundError, StoreUnavailableError
from stigmer_sqlite.port import Operation, Record, ResourceStore

from stigmer_server.kinds import Kind, Kinds
from stigmer_server.unit import wire_of

_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    version: int
    wire: bytes
    final: bool


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

    def wake(self) -> None:
        """Look again: there is a newer state, or there will be none."""
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self._wake.clear()
            state = self._topic.state
            if state is not None and state.version > self._seen:
                self._seen = state.version
                yield state.wire
                if state.final:
                    return
            elif self._topic.closed:
                return
            else:
                await self._wake.wait()


class _Topic:
    """An execution that somebody follows."""

    def __init__(self, kind: Kind, redacted: Callable[[Kind, bytes], bytes]) -> None:
        self._kind = kind
        self._redacted = redacted
        self.state: _State | None = None
        self.closed = False
        self.followers: set[Follower] = set()

    def offer(self, record: Record) -> None:
        if self.state is not None and self.state.version >= record.version:
            return
        wire = wire_of(record)
        final = self._kind.is_finished(self._kind.parse(wire))
        self.state = _State(version=record.version, wire=self._redacted(self._kind, wire), final=final)
        self.wake()

    def close(self) -> None:
        self.closed = True
        self.wake()

    def wake(self) -> None:
        for follower in self.followers:
            follower.wake()


class Streams:
    """Everybody who follows an execution of this server."""

    def __init__(self, store: ResourceStore, kinds: Kinds, redacted: Callable[[Kind, bytes], bytes]) -> None:
        self._store = store
        self._redacted = redacted
        self._executions = tuple(kind.name for kind in kinds.values() if kind.phases)
        self._topics: dict[tuple[str, str], _Topic] = {}
        self._pump: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to read the change feed; every change committed from now on is told."""
        changes = self._store.watch(kinds=self._executions)

        async def pump() -> None:
            async for change in changes:
                topic = self._topics.get((change.kind, change.id))
                if topic is None:
                    continue
                if change.operation is Operation.DELETED:
                    topic.close()
                else:
                    await self._refresh(topic, change.kind, change.id)

        self._pump = asyncio.create_task(pump(), name="streams")
        self._pump.add_done_callback(_report)

    @contextmanager
    def follow(self, kind: Kind, id: str) -> Generator[Follower]:
        """Register a reader of an execution; states are told to it from here on."""
        key = (kind.name, id)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = _Topic(kind, self._redacted)
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

    async def _refresh(self, topic: _Topic, kind: str, id: str) -> None:
        while topic.followers:
            try:
                topic.offer(await self._store.get(kind, id))
            except NotFoundError:
                pass  # Deleted since; the feed tells that next.
            except StoreUnavailableError as error:
                logger.warning("cannot read {} {} for its followers: {}", kind, id, error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            return


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.opt(exception=error).error("the change feed ended; streams are no longer told of changes")
