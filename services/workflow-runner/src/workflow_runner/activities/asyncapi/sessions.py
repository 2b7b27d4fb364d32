"""Subscriptions that stay open between the batches that a workflow asks for.

Of most protocols a message that comes while nobody listens is gone, so a subscription is not closed after a batch but
kept for a while for the next. It belongs to this process: a workflow that goes on elsewhere opens another there,
and this one is closed when nobody has asked for it for a minute.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator

from loguru import logger

from workflow_runner.activities.asyncapi.port import Feed, Inbound
from workflow_runner.activities.calls import CallFailedError

Open = Callable[[], Awaitable[Feed]]

_IDLE_SECONDS = 60.0
_BATCH_BYTES = 256 * 1024
_MOST_OPEN = 500
_BREAKS = 2
"""So often one that broke is opened again while one batch is waited for."""


class _Session:
    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.ready: deque[Inbound] = deque()
        self.lock = asyncio.Lock()
        self.closing: asyncio.TimerHandle | None = None
        self.users = 0


class Sessions:
    """Open subscriptions by their names."""

    def __init__(self) -> None:
        self._open: dict[str, _Session] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close them all."""
        for name in list(self._open):
            await self.end(name)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def take(self, name: str, open_: Open, *, most: int, seconds: float) -> tuple[list[Inbound], bool]:
        """Return the next messages of a subscription, none after `seconds`, and whether they are to be settled.

        One that breaks is opened again, a few times.

        Raises:
            CallFailedError: It cannot be opened, or breaks again and again.
        """
        until = time.monotonic() + seconds
        for _ in range(_BREAKS):
            session = self._open.get(name) or await self._opened(name, open_)
            try:
                return await self._taken(name, session, most, max(0.0, until - time.monotonic()))
            except CallFailedError as error:
                logger.debug("the subscription {} broke: {}", name, error)
                await self.end(name)
        session = await self._opened(name, open_)
        return await self._taken(name, session, most, max(0.0, until - time.monotonic()))

    async def settle(self, name: str, done: int) -> None:
        """Tell the broker that the first `done` messages of the last batch are done; the others go back."""
        session = self._open.get(name)
        if session is not None:
            session.ready.clear()
            await session.feed.settle(done)

    async def end(self, name: str, *, over: bool = False) -> None:
        """Close a subscription, if it is open here; it is `over` when nobody is to open it again."""
        session = self._open.pop(name, None)
        if session is None:
            return
        if session.closing is not None:
            session.closing.cancel()
        try:
            async with asyncio.timeout(5):
                await session.feed.close(over=over)
        except Exception as error:  # noqa: BLE001 - it is over anyway, and what was not settled goes back
            logger.debug("the subscription {} was not closed well: {!r}", name, error)

    async def _opened(self, name: str, open_: Open) -> _Session:
        if len(self._open) >= _MOST_OPEN:
            raise CallFailedError("runtime", f"this runner has {_MOST_OPEN} subscriptions open; it takes no more")
        session = self._open[name] = _Session(await open_())
        return session

    async def _taken(self, name: str, session: _Session, most: int, seconds: float) -> tuple[list[Inbound], bool]:
        with self._in_use(name, session):
            async with session.lock:
                if not session.ready:
                    session.ready += await session.feed.take(most, seconds)
                return list(_cut(session.ready, most)), session.feed.settles

    @contextlib.contextmanager
    def _in_use(self, name: str, session: _Session) -> Generator[None]:
        if session.closing is not None:
            session.closing.cancel()
        session.users += 1
        try:
            yield
        finally:
            session.users -= 1
            if not session.users:
                session.closing = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_later, name, session)

    def _end_later(self, name: str, session: _Session) -> None:
        if self._open.get(name) is session and not session.users:
            task = asyncio.get_running_loop().create_task(self.end(name))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _cut(ready: deque[Inbound], most: int) -> deque[Inbound]:
    """Take from `ready` what fits into one batch: one message, and more as long as they are small."""
    taken: deque[Inbound] = deque()
    size = 0
    while ready and len(taken) < most:
        size += len(ready[0].body)
        if taken and size > _BATCH_BYTES:
            break
        taken.append(ready.popleft())
    return taken
