"""A thread that does one task at a time for the event loop, and hands back control quickly however busy the loop is.

A thread that has waited for the disk must get the interpreter's lock before it can say so, and beside a busy event
loop that takes it many milliseconds, at times hundreds. So the loop's thread waits a moment for each task by itself,
which lets the lock go, and looks again now and then while the task lasts.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from loguru import logger

# How long the event loop stands still for a task: longer than a fast disk needs, too short to be noticed.
_FIRST_LOOK = 0.001
_NEXT_LOOK = 0.0002
_BETWEEN_LOOKS = 0.002


class Helper:
    """Runs tasks on its own thread; to be used on the event loop's thread, for one task after another."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._then: Callable[[], None] | None = None
        self._done = threading.Lock()
        self._done.acquire()
        self._loop_left = False
        self._next_look: asyncio.TimerHandle | None = None
        # A daemon: a program that ends without closing its store must end all the same; commits are atomic anyway.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def run(self, task: Callable[[], None], then: Callable[[], None], *, wait: bool) -> None:
        """Run the task, which must not raise, on the helper's thread, and `then` on the event loop's.

        `wait`: the event loop stands still for it at first; otherwise it goes on at once with what else there is.
        """
        self._then = then
        self._loop_left = False
        self._tasks.put(task)
        self._look(_FIRST_LOOK if wait else 0)

    def end(self) -> None:
        """End the thread once its task is done."""
        self._tasks.put(None)

    def _look(self, seconds: float) -> None:
        if self._then is None:
            return
        if not self._done.acquire(timeout=seconds):
            # From here on the thread tells the loop; if it finished in between, it did not.
            self._loop_left = True
            if not self._done.acquire(blocking=False):
                self._look_again()
                return
        if self._next_look is not None:
            self._next_look.cancel()
        then, self._then = self._then, None
        # Not from within: a task that is done at once would call the next from inside the call of the last.
        self._loop.call_soon(then)

    def _look_again(self) -> None:
        # One look at a time is to come, however many have been caused.
        if self._next_look is not None:
            self._next_look.cancel()
        self._next_look = self._loop.call_later(_BETWEEN_LOOKS, self._look, _NEXT_LOOK)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            self._done.release()
            if self._loop_left:
                self._tell()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._look, 0)
        except RuntimeError:
            logger.warning("the event loop ended before its store was closed")
