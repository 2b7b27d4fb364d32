"""Lines that a person types, or a program pipes in, read without holding anything else up."""

from __future__ import annotations

import asyncio
import os
import stat
import sys


def is_there() -> bool:
    """Whether a person sits at a terminal, and can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Keyboard:
    """Standard input, line by line."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_over = False

    async def line(self, prompt: str = "") -> str | None:
        """Ask, and return the next line without its end; None when there will be none."""
        if prompt:
            sys.stderr.write(prompt)
            sys.stderr.flush()
        while b"\n" not in self._rest and not self._is_over:
            chunk = await _chunk()
            self._is_over = not chunk
            self._rest += chunk
        if not self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")


async def _chunk() -> bytes:
    number = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.read(number, 65536)  # a file is always there; an event loop cannot wait for one
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(number, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(number)
    return os.read(number, 65536)
