"""The owner's side of the guard: starts it, and lets it go."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from stigmer_cli.errors import UnavailableError
from stigmer_cli.stack import guard as guard_program

TERM_SECONDS = 5.0
"""How long children may take to end by themselves when their owner is gone."""
_START_SECONDS = 10.0


class Guard:
    """The running guard. Children join its process group by `process_group=guard.pid`."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int) -> None:
        self._process = process
        self._lifeline = lifeline
        self.pid = process.pid

    @classmethod
    async def start(cls) -> Guard:
        """Start the guard and wait until signals cannot end it.

        Raises:
            UnavailableError: It did not start.
        """
        reading, lifeline = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(Path(guard_program.__file__)), str(TERM_SECONDS),
                stdin=reading, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, process_group=0,
            )  # fmt: skip
        finally:
            os.close(reading)
        guard = cls(process, lifeline)
        async with asyncio.timeout(_START_SECONDS):
            if process.stdout is None or await process.stdout.readline() != b"ready\n":
                await guard.release()
                msg = "the guard of the stack's processes did not start"
                raise UnavailableError(msg, hint=f"does `{sys.executable} -I -S -c pass` work here?")
        return guard

    async def wait(self) -> None:
        """Wait until the guard has ended, which it does by itself only after `release`."""
        await self._process.wait()

    async def release(self) -> None:
        """Let the guard end whatever is left in its group, and itself."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        await self._process.wait()
