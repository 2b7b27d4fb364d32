"""How often, and how soon, a component that ended is started again. Pure: it is told the time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class RestartPolicy:
    """Back-off that doubles, with a cap on restarts within a sliding window.

    One object lives as long as its component, so that what it has counted survives every restart.
    """

    limit: int = 10
    """Restarts allowed within `window`; the next end is the component's last."""
    window: float = 300.0
    """Seconds."""
    first_delay: float = 0.1
    longest_delay: float = 20.0
    _restarts: deque[float] = field(default_factory=deque[float])

    def next_delay(self, now: float) -> float | None:
        """Count one end of the component at `now`, and return how long to wait before its restart.

        None: it has had its restarts and stays down.
        """
        while self._restarts and now - self._restarts[0] > self.window:
            self._restarts.popleft()
        if len(self._restarts) >= self.limit:
            return None
        delay = min(self.first_delay * 2 ** len(self._restarts), self.longest_delay)
        self._restarts.append(now)
        return delay
