"""The strands of a run: its coroutines that go on side by side, and how all of them leave together.

A run has one strand, and while a fork is in progress one for each of its branches instead. A run that is to go on in
a new history leaves as a whole: a strand that comes to a safe point waits there until every other is at one, or rests
where it can be taken away at any time. Until then the others may still end their fork, and cancel those that wait.
"""

import contextlib
from collections.abc import Generator


class Strands:
    """Counts the strands of one run. Workflow code."""

    def __init__(self) -> None:
        self._running = 1
        self._resting = 0
        self._wishes = 0
        self._is_leaving = False

    @property
    def are_several(self) -> bool:
        """Whether more than one goes on."""
        return self._running > 1

    @property
    def is_leaving(self) -> bool:
        """Whether all leave now. Once true it stays so."""
        return self._is_leaving

    @property
    def count(self) -> int:
        """How many go on."""
        return self._running

    @property
    def are_resting(self) -> bool:
        """Whether any of them rests: waits for a time, an event, or to be let go on."""
        return self._resting > 0

    def split(self, count: int) -> None:
        """Say that `count` strands go on in place of one that waits for them."""
        self._running += max(0, count - 1)

    def end(self) -> None:
        """Say that a strand is over, and not the last of those that its fork waits for."""
        self._running -= 1
        self._settle()

    @contextlib.contextmanager
    def rest(self) -> "Generator[Rest]":
        """Let the strand be taken away while it is in the block."""
        rest = Rest(self)
        rest.begin()
        try:
            yield rest
        finally:
            rest.end()

    def change(self, *, resting: int = 0, wishes: int = 0) -> None:
        """Change the counts; for `Rest`."""
        self._resting += resting
        self._wishes += wishes
        self._settle()

    def _settle(self) -> None:
        if self._wishes > 0 and self._resting == self._running:
            self._is_leaving = True


class Rest:
    """One strand at a place where it can be taken away."""

    def __init__(self, strands: Strands) -> None:
        self._strands = strands
        self._rests = 0
        self._wishes = 0

    def begin(self) -> None:
        """Rest from now on."""
        self._rests = 1
        self._strands.change(resting=1)

    def wish(self) -> None:
        """Ask that the run leaves, as soon as every strand can."""
        if not self._wishes:
            self._wishes = 1
            self._strands.change(wishes=1)

    def end(self) -> None:
        """Go on."""
        rests, wishes = self._rests, self._wishes
        self._rests = self._wishes = 0
        self._strands.change(resting=-rests, wishes=-wishes)
