"""The run's own time, which stands still while the run is held, and the limits that are measured by it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable


class Clock:
    """Tells the time of a run. A run that is never held has the time of the world."""

    def __init__(self, now: Callable[[], float], *, behind: float = 0.0, stopped: bool = False) -> None:
        """Begin.

        Args:
            now: The time of the world, in seconds since the epoch; the same when replayed.
            behind: How many seconds the run's time is behind it already.
            stopped: Whether it stands still.
        """
        self._now = now
        self._behind = behind
        self._stopped_at = now() if stopped else None
        self._limits: dict[asyncio.Timeout, float] = {}

    @property
    def is_stopped(self) -> bool:
        """Whether it stands still."""
        return self._stopped_at is not None

    @property
    def behind(self) -> float:
        """How many seconds it is behind the time of the world."""
        return self._now() - self.time()

    def time(self) -> float:
        """Return the run's time, in seconds since the epoch."""
        now = self._now() if self._stopped_at is None else self._stopped_at
        return now - self._behind

    def stop(self) -> None:
        """Stand still, and let no limit be reached meanwhile."""
        if self._stopped_at is None:
            self._stopped_at = self._now()
            for timeout in self._limits:
                if not timeout.expired():
                    timeout.reschedule(None)

    def go_on(self) -> None:
        """Go on; what was left of each limit is left of it now."""
        if self._stopped_at is None:
            return
        self._behind += self._now() - self._stopped_at
        self._stopped_at = None
        loop = asyncio.get_running_loop()
        for timeout, until in self._limits.items():
            if not timeout.expired():
                timeout.reschedule(loop.time() + max(0.0, until - self.time()))

    @contextlib.asynccontextmanager
    async def limit(self, until: float) -> AsyncGenerator[None]:
        """Cancel the block when the run's time reaches `until`.

        Raises:
            TimeoutError: It did.
        """
        left = None if self.is_stopped else max(0.0, until - self.time())
        async with asyncio.timeout(left) as timeout:
            self._limits[timeout] = until
            try:
                yield
            finally:
                del self._limits[timeout]
