"""What a piece of transactional work may return."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TypeVar, cast

T = TypeVar("T")


def finished(result: T) -> T:
    """Return the result, or refuse a coroutine: its body would run after the transaction it was meant for."""
    if isinstance(result, Coroutine):
        cast("Coroutine[object, object, object]", result).close()
        raise TypeError("the work of a transaction is an ordinary function, not a coroutine function")
    return result
