"""Opening connections: every one of them gets every setting, for SQLite keeps most settings per connection."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from stigmer_sqlite.records import search_text

BUSY_TIMEOUT = 5000
"""Milliseconds to wait for somebody else's lock, such as a backup's; stores never wait for each other."""

_EVERY_CONNECTION = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
)
_JOURNAL_LIMIT = 64 * 1024 * 1024
# SQLite's own caches hold what is asked for over and over, the upper pages of the indexes; for the rest the system's
# cache is as good, and gives memory back. Four times as much made no write faster.
_WRITER_CACHE, _READER_CACHE = 16, 8
"""MiB."""


def open_writer(path: Path | None) -> sqlite3.Connection:
    """Open the connection that writes; None: a database in memory. Settings that change the file are left out."""
    if path is not None:
        _make_private(path)
    connection = _connect(str(path) if path else ":memory:", cache_mib=_WRITER_CACHE)
    connection.create_function("search_text", 3, search_text, deterministic=True)
    return connection


def _make_private(path: Path) -> None:
    """Make a database that is not there yet as a file of its owner alone; SQLite gives its log the same mode."""
    try:
        # Of one that is there no descriptor is opened: closing it would let go of every lock that SQLite holds on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError:
        # It is there, or SQLite says better what is wrong.
        return


def use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and the writer work side by side. The file remembers it."""
    connection.execute("PRAGMA journal_mode = WAL")
    # A burst may grow the log; this gives the space back at the next checkpoint.
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT}")
    connection.execute("PRAGMA wal_autocheckpoint = 2000")


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    connection = _connect(str(path), cache_mib=_READER_CACHE)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(name: str, *, cache_mib: int) -> sqlite3.Connection:
    # isolation_level=None: transactions begin and end only where this package says so.
    connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False, cached_statements=512)
    try:
        for pragma in _EVERY_CONNECTION:
            connection.execute(pragma)
        connection.execute(f"PRAGMA cache_size = {-1024 * cache_mib}")
    except BaseException:
        connection.close()
        raise
    return connection
