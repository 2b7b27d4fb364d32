"""How long work may take on the event loop's thread before it must move to another.

Most reads and writes take microseconds, and then the event loop's thread is the best place for them: each statement
run beside a busy event loop waits for the interpreter's lock, which costs it milliseconds. The few that take long must
not hold the loop up. Nobody can tell them apart beforehand, so every one begins there and is stopped if need be.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

# Instructions of SQLite's virtual machine between two looks at the clock; some hundred microseconds.
_LOOK_EVERY = 2000


class OverdueError(BaseException):
    """The allowance is spent; the work is to be run again elsewhere.

    No Exception, so that work which handles errors does not take it for one; it never leaves this package.
    """


class Allowance:
    """The time that the work under way may take; without limit where none was granted."""

    def __init__(self) -> None:
        self.spent = False
        """Whether the work since the last grant took too long."""
        self.reads = False
        """Whether the statements under way may be interrupted; a write would lose its whole database transaction."""
        self._until = math.inf

    def watch(self, connection: sqlite3.Connection) -> None:
        """Interrupt the connection's statements, too, when the time is spent."""
        connection.set_progress_handler(self._interrupts, _LOOK_EVERY)

    @contextmanager
    def granted(self, seconds: float) -> Generator[None]:
        """Limit what runs within."""
        self.grant(seconds)
        try:
            yield
        finally:
            self.revoke()

    def grant(self, seconds: float) -> None:
        """Limit what runs from here on, until it is revoked."""
        self._until = perf_counter() + seconds

    def revoke(self) -> None:
        """Limit nothing any more."""
        self._until = math.inf

    def renew(self) -> None:
        """Forget that earlier work took too long."""
        self.spent = False

    @contextmanager
    def reading(self) -> Generator[None]:
        """Let the statements within be interrupted."""
        before, self.reads = self.reads, True
        try:
            yield
        finally:
            self.reads = before

    def check(self, *, size: int = 0, limit: int = 0) -> None:
        """Raise OverdueError when the time is spent, or where a limit holds and the size is beyond it."""
        if self._until != math.inf and (size > limit or perf_counter() > self._until):
            self.spent = True
            raise OverdueError

    def _interrupts(self) -> bool:
        if self.reads and perf_counter() > self._until:
            self.spent = True
            return True
        return False
