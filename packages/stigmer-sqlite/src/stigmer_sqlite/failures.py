"""What SQLite's errors mean to a caller of the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from stigmer_sqlite.allowance import OverdueError
from stigmer_sqlite.errors import StoreUnavailableError


def is_code(error: Exception, code: int) -> bool:
    """Tell whether the error is of this primary or extended result code."""
    found = getattr(error, "sqlite_errorcode", None)
    return found is not None and (found == code or found & 0xFF == code)


def unavailable(error: Exception, doing: str) -> StoreUnavailableError:
    """Return the port's error for a failure of the storage, naming SQLite's reason."""
    if is_code(error, sqlite3.SQLITE_INTERRUPT):
        raise OverdueError from error
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StoreUnavailableError(f"{doing} failed: {error} ({name})")


@contextmanager
def translated(doing: str) -> Generator[None]:
    """Raise SQLite's errors as StoreUnavailableError."""
    try:
        yield
    except sqlite3.Error as error:
        raise unavailable(error, doing) from error
