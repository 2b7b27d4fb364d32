"""The event loop: uvloop where it can be had."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on uvloop if it is installed. For a program's entry point."""
    uvloop = _uvloop()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None if uvloop is None else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def install_uvloop() -> bool:
    """Make uvloop the kind of event loop that asyncio makes from here on; False if it is not installed.

    For programs that do not start their loop themselves; those that do take `run`.
    """
    uvloop = _uvloop()
    if uvloop is None:
        return False
    with warnings.catch_warnings():
        # Loop policies are deprecated from Python 3.14 on, and there is no other way for a loop made elsewhere.
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # pyright: ignore[reportDeprecated] - see above
    return True


def _uvloop() -> Any:
    try:
        return import_module("uvloop")
    except ImportError:
        return None
