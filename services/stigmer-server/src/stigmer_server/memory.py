"""What the start of the server took and needs no more, given back to the operating system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable
from typing import cast

SETTLED_SECONDS = 5.0
"""After the start, when what is loaded late is loaded too."""


def give_back_later() -> asyncio.TimerHandle:
    """Give memory back once the start is over; it holds the interpreter up for some ten milliseconds, once."""
    loop = asyncio.get_running_loop()
    return loop.call_later(SETTLED_SECONDS, loop.run_in_executor, None, give_back)


def give_back() -> bool:
    """Give back what is free between allocations, and tell whether the system's allocator can do that: glibc's can.

    Importing and migrating leaves more than 10 MiB of it, which the allocator would keep for the life of the process.
    """
    trim = cast("Callable[[int], int] | None", getattr(ctypes.CDLL(None), "malloc_trim", None))
    if trim is None:
        return False
    gc.collect()
    # What the start has made lives as long as the process: no collection need look at it again.
    gc.freeze()
    trim(0)
    return True
