"""A few threads that read, each with its own connection."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stigmer_sqlite.connections import open_reader
from stigmer_sqlite.errors import ClosedError
from stigmer_sqlite.kinds import Kinds
from stigmer_sqlite.reading import SqliteReader

T = TypeVar("T")


class Readers:
    """Runs reads beside the event loop, as many at once as there are connections."""

    def __init__(self, connections: Sequence[sqlite3.Connection], kinds: Kinds) -> None:
        self._connections = tuple(connections)
        self._free = [SqliteReader(connection, kinds) for connection in connections]
        self._mine = threading.local()
        self._threads = ThreadPoolExecutor(len(connections), "stigmer-sqlite-reader", initializer=self._claim)

    @classmethod
    def open(cls, path: Path, kinds: Kinds, *, count: int) -> Readers:
        """Open the connections; the threads start with the first reads."""
        connections: list[sqlite3.Connection] = []
        try:
            connections.extend(open_reader(path) for _ in range(count))
        except BaseException:
            for connection in connections:
                connection.close()
            raise
        return cls(connections, kinds)

    async def read(self, work: Callable[[SqliteReader], T]) -> T:
        """Run the work on a thread of its own."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise ClosedError("the store is closed") from error
            raise

    async def close(self) -> None:
        """Let the reads under way end, then close the connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self.discard()

    def discard(self) -> None:
        """Close the connections; no read may be under way."""
        for connection in self._connections:
            connection.close()

    def _claim(self) -> None:
        self._mine.reader = self._free.pop()

    def _run(self, work: Callable[[SqliteReader], T]) -> T:
        reader: SqliteReader = self._mine.reader
        return work(reader)
