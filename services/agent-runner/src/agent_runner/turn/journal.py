"""What a runner remembers between steps: checkpoints, who runs which thread, and which effects have happened.

One SQLite file in the runner's data folder, which workers of one machine may share. LangGraph's saver owns its two
tables; the two others are here. A cluster will have the same over PostgreSQL, so no other module knows SQLite.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.serde.types import (
    _DeltaSnapshot,  # pyright: ignore[reportPrivateUsage] - what LangGraph asks of who drops checkpoints
)
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from agent_runner.errors import SupersededError
from agent_runner.turn.effects import EffectKey, Recorded
from agent_runner.turn.usage import Usage

T = TypeVar("T")

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS turn_leases (
    thread TEXT PRIMARY KEY, execution TEXT NOT NULL, attempt INTEGER NOT NULL, token TEXT NOT NULL,
    expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS turns (
    place INTEGER PRIMARY KEY AUTOINCREMENT, thread TEXT NOT NULL, execution TEXT NOT NULL, UNIQUE (thread, execution)
);
CREATE INDEX IF NOT EXISTS turns_by_execution ON turns (execution);
CREATE TABLE IF NOT EXISTS effects (
    thread TEXT NOT NULL, scope TEXT NOT NULL, call_id TEXT NOT NULL, execution TEXT NOT NULL, name TEXT NOT NULL,
    arguments TEXT NOT NULL, result_type TEXT NOT NULL DEFAULT '', result BLOB, PRIMARY KEY (thread, scope, call_id)
);
CREATE TABLE IF NOT EXISTS usage (
    thread TEXT NOT NULL, execution TEXT NOT NULL, call TEXT NOT NULL, model_calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL, unpriced_calls INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (thread, execution, call)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tools (
    thread TEXT NOT NULL, server TEXT NOT NULL, name TEXT NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (thread, server, name)
) WITHOUT ROWID;
"""
_BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One attempt at one turn.

    Attributes:
        thread: The session's thread.
        execution: The execution whose message is answered.
        attempt: Number of the attempt, rising.
    """

    thread: str
    execution: str
    attempt: int


class Journal:
    """The runner's memory.

    Args:
        path: The SQLite file; its folder must exist.
        connection: An open connection to it, for leases and effects.
        lease_seconds: How long a thread stays taken by a turn that no longer says that it lives.
        clock: Seconds since the epoch; leases are compared across processes.
    """

    def __init__(
        self,
        path: Path,
        connection: aiosqlite.Connection,
        *,
        lease_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._connection = connection
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._lock = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, lease_seconds: float = 30.0) -> AsyncGenerator[Journal]:
        """Open the file, making it and its folder (0700: prompts are in it) where they are missing."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with aiosqlite.connect(path, timeout=_BUSY_SECONDS, isolation_level=None) as connection:
            await connection.executescript(_SCHEMA)
            await AsyncSqliteSaver(connection).setup()
            yield cls(path, connection, lease_seconds=lease_seconds)

    @asynccontextmanager
    async def hold(self, turn: Turn, *, poll: float = 0.25) -> AsyncGenerator[Lease]:
        """Take the thread for this turn, waiting while another execution's turn has it.

        A later attempt of the same execution takes the thread from an earlier one at once: from then on, the earlier
        one can write nothing. The caller must `renew` more often than every `lease_seconds`.

        Raises:
            SupersededError: A later attempt of this turn has the thread already.
        """
        lease = Lease(self, turn, uuid.uuid4().hex)
        while not await self._take(lease):  # noqa: ASYNC110 - the holder may be another process
            await asyncio.sleep(poll)
        try:
            yield lease
        finally:
            await asyncio.shield(
                self._write("DELETE FROM turn_leases WHERE thread = ? AND token = ?", turn.thread, lease.token)
            )

    async def queue(self, thread: str, execution: str) -> str:
        """Take a place among the executions of a thread, unless it has one; gives the one that is first.

        An execution keeps the first place until it is over, also while it is paused or waits for a person: what it has
        said so far must not be mixed with what another says.
        """
        await self._write("INSERT OR IGNORE INTO turns (thread, execution) VALUES (?, ?)", thread, execution)
        return str((await self._first(thread))[0])

    async def leave(self, execution: str) -> str:
        """Give an execution's place up; gives the one that is first in its thread now, "" when there is none."""
        row = await self._row("SELECT thread FROM turns WHERE execution = ?", execution)
        if row is None:
            return ""
        await self._write("DELETE FROM turns WHERE execution = ?", execution)
        first = await self._first(row[0])
        return str(first[0]) if first is not None else ""

    async def _first(self, thread: str) -> Any:
        return await self._row("SELECT execution FROM turns WHERE thread = ? ORDER BY place LIMIT 1", thread)

    @asynccontextmanager
    async def checkpoints(self, lease: Lease) -> AsyncGenerator[FencedSaver]:
        """LangGraph's saver for the turn that has the lease; it refuses to write once another attempt has it."""
        async with aiosqlite.connect(self._path, timeout=_BUSY_SECONDS) as connection:
            saver = FencedSaver(connection, lease)
            try:
                yield saver
            finally:
                await _to_its_end(saver.end())

    async def has_begun(self, thread: str) -> bool:
        """Whether anything was said in a thread."""
        return await self._row("SELECT 1 FROM checkpoints WHERE thread_id = ? LIMIT 1", thread) is not None

    async def copy_pins(self, source: str, thread: str) -> None:
        """Let a thread know the tools that another one knows, except where it knows them itself."""
        await self._write(
            "INSERT OR IGNORE INTO tools (thread, server, name, hash) "
            "SELECT ?, server, name, hash FROM tools WHERE thread = ?",
            thread,
            source,
        )

    async def forget_effects(self, execution: str) -> None:
        """Drop the effects of an execution that is over: nothing will ask for them again."""
        await self._write("DELETE FROM effects WHERE execution = ?", execution)

    async def begin(
        self, lease: Lease, key: EffectKey, *, execution: str, name: str, arguments: str
    ) -> Recorded | None:
        """See `EffectLedger.begin`."""
        async with self._lock:
            await lease.check()
            cursor = await self._connection.execute(
                "INSERT INTO effects (thread, scope, call_id, execution, name, arguments) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key.thread, key.scope, key.call_id, execution, name, arguments),
            )
            if cursor.rowcount:
                return None
            row = await self._row(
                "SELECT arguments, result, result_type FROM effects WHERE thread = ? AND scope = ? AND call_id = ?",
                *_columns(key),
            )
            assert row is not None  # noqa: S101 - the insert met it
            return Recorded(arguments=row[0], result=row[1], result_type=row[2])

    async def finish(self, key: EffectKey, *, result_type: str, result: bytes) -> None:
        """See `EffectLedger.finish`."""
        await self._write(
            "UPDATE effects SET result_type = ?, result = ? WHERE thread = ? AND scope = ? AND call_id = ?",
            result_type,
            result,
            *_columns(key),
        )

    async def add_usage(self, turn: Turn, call: str, usage: Usage) -> None:
        """See `UsageRecord.add_usage`."""
        values = tuple(getattr(usage, name) for name in _USAGE)
        marks = ", ".join("?" * (3 + len(values)))
        sql = f"INSERT OR IGNORE INTO usage (thread, execution, call, {', '.join(_USAGE)}) VALUES ({marks})"  # noqa: S608 - names of columns
        await self._write(sql, turn.thread, turn.execution, call, *values)

    async def used(self, thread: str, execution: str) -> tuple[Usage, Usage]:
        """What an execution has used so far, and what the other executions of its thread have."""
        return await self._sum(thread, execution, "="), await self._sum(thread, execution, "<>")

    async def _sum(self, thread: str, execution: str, sign: str) -> Usage:
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in _USAGE)
        sql = f"SELECT {sums} FROM usage WHERE thread = ? AND execution {sign} ?"  # noqa: S608 - names of columns
        row = await self._row(sql, thread, execution)
        return Usage(**dict(zip(_USAGE, row, strict=True)))

    async def pin(self, thread: str, server: str, hashes: Mapping[str, str]) -> tuple[str, ...]:
        """See `Pins.pin`."""
        async with (
            self._lock,
            self._connection.execute(
                "SELECT name, hash FROM tools WHERE thread = ? AND server = ?", (thread, server)
            ) as cursor,
        ):
            known = {str(name): str(digest) async for name, digest in cursor}
        new = [(thread, server, name, digest) for name, digest in hashes.items() if known.get(name) != digest]
        if new:
            async with self._lock:
                await self._connection.executemany(
                    "INSERT INTO tools (thread, server, name, hash) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET hash = excluded.hash",
                    new,
                )
        return tuple(name for _, _, name, _ in new if name in known)

    async def renew(self, lease: Lease) -> None:
        """Say that the turn lives.

        Raises:
            SupersededError: Another attempt has the thread.
        """
        if not await self._write(
            "UPDATE turn_leases SET expires_at = ? WHERE thread = ? AND token = ?",
            self._clock() + self._lease_seconds,
            lease.turn.thread,
            lease.token,
        ):
            raise SupersededError(_SUPERSEDED)

    async def check(self, lease: Lease) -> None:
        """Make sure that the lease still holds.

        Raises:
            SupersededError: Another attempt has the thread.
        """
        if (
            await self._row("SELECT 1 FROM turn_leases WHERE thread = ? AND token = ?", lease.turn.thread, lease.token)
            is None
        ):
            raise SupersededError(_SUPERSEDED)

    async def _take(self, lease: Lease) -> bool:
        turn, now = lease.turn, self._clock()
        taken = await self._write(
            """INSERT INTO turn_leases (thread, execution, attempt, token, expires_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (thread) DO UPDATE SET execution = excluded.execution, attempt = excluded.attempt,
                token = excluded.token, expires_at = excluded.expires_at
            WHERE (turn_leases.execution = excluded.execution AND turn_leases.attempt <= excluded.attempt)
                OR turn_leases.expires_at < ?""",
            turn.thread,
            turn.execution,
            turn.attempt,
            lease.token,
            now + self._lease_seconds,
            now,
        )  # fmt: skip - the values in the order of the columns
        if taken:
            return True
        holder = await self._row("SELECT execution, attempt FROM turn_leases WHERE thread = ?", turn.thread)
        if holder is not None and holder[0] == turn.execution and holder[1] > turn.attempt:
            raise SupersededError(_SUPERSEDED)
        return False

    async def _write(self, sql: str, *values: Any) -> int:
        async with self._lock:
            cursor = await self._connection.execute(sql, values)
            return cursor.rowcount

    async def _row(self, sql: str, *values: Any) -> Any:
        # All at once: while a statement is half read, its connection sees an old state of the file, and may not write.
        rows = await self._connection.execute_fetchall(sql, values)
        return next(iter(rows), None)


@dataclass(frozen=True, slots=True)
class Lease:
    """A thread, taken for a turn; also the turn's record of effects."""

    journal: Journal
    turn: Turn
    token: str

    async def renew(self) -> None:
        """See `Journal.renew`."""
        await self.journal.renew(self)

    async def check(self) -> None:
        """See `Journal.check`."""
        await self.journal.check(self)

    async def begin(self, key: EffectKey, *, execution: str, name: str, arguments: str) -> Recorded | None:
        """See `EffectLedger.begin`."""
        return await self.journal.begin(self, key, execution=execution, name=name, arguments=arguments)

    async def add_usage(self, call: str, usage: Usage) -> None:
        """See `UsageRecord.add_usage`."""
        await self.journal.add_usage(self.turn, call, usage)

    async def finish(self, key: EffectKey, *, result_type: str, result: bytes) -> None:
        """See `EffectLedger.finish`."""
        await self.journal.finish(key, result_type=result_type, result=result)


class FencedSaver(AsyncSqliteSaver):
    """LangGraph's saver, which writes only while its turn has the lease."""

    def __init__(self, connection: aiosqlite.Connection, lease: Lease) -> None:
        super().__init__(connection)
        self._lease = lease
        self._writing: set[asyncio.Task[Any]] = set()
        self._is_over = False

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint."""
        await self._lease.check()
        return await self._whole(super().aput(config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what one step wrote."""
        await self._lease.check()
        await self._whole(super().aput_writes(config, writes, task_id, task_path))

    async def begin(self, values: Mapping[str, Any], differences: Mapping[str, Any]) -> None:
        """Begin the thread with a state, as if that were the end of an earlier turn.

        Args:
            values: What is in its channels.
            differences: Those of them that are stored as differences; it takes the place of these.
        """
        checkpoint = empty_checkpoint()
        stored = {**values, **{name: _DeltaSnapshot(value) for name, value in differences.items()}}
        versions: ChannelVersions = {name: self.get_next_version(None, None) for name in stored}
        checkpoint["channel_values"], checkpoint["channel_versions"] = stored, versions
        config: RunnableConfig = {"configurable": {"thread_id": self._lease.turn.thread, "checkpoint_ns": ""}}
        await self.aput(config, checkpoint, {"source": "fork", "step": -1, "parents": {}}, versions)

    async def settle(self, values: Mapping[str, Any]) -> None:
        """Keep of the thread, whose turn is over, its state as it is now, and none of the steps that led to it.

        Else every step of every turn would stay, and every fiftieth with the whole conversation in it.

        Args:
            values: What is in the channels that are stored as differences; it takes the place of these.
        """
        await self._lease.check()
        thread = self._lease.turn.thread
        config: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        found = await self.aget_tuple(config)
        if found is None:
            return
        whole = {name: _DeltaSnapshot(value) for name, value in values.items()}
        checkpoint = {**found.checkpoint, "channel_values": {**found.checkpoint["channel_values"], **whole}}
        kind, data = self.serde.dumps_typed(checkpoint)
        await self._whole(self._replace_all((kind, data), (thread, found.checkpoint["id"])))

    async def end(self) -> None:
        """Let what is being written end, and take no more: LangGraph may leave some of it behind when it is cancelled.

        A connection that is closed in the middle of a transaction keeps its lock for as long as anything refers to one
        of its cursors, and no writer of the file gets on.
        """
        self._is_over = True
        if self._writing:
            await asyncio.wait(self._writing)
        await self.conn.rollback()

    async def _whole(self, write: Coroutine[Any, Any, T]) -> T:
        """Write to the end of the transaction, also when cancelled meanwhile. Raises: SupersededError."""
        if self._is_over:
            write.close()
            raise SupersededError(_OVER)
        task = asyncio.ensure_future(write)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await _to_its_end(task)

    async def _replace_all(self, stored: tuple[str, bytes], last: tuple[str, str]) -> None:
        """Keep of a thread this checkpoint alone, as it is given."""
        async with self.lock, self.conn.cursor() as cursor:
            for table in ("checkpoints", "writes"):
                await cursor.execute(
                    f"DELETE FROM {table} WHERE thread_id = ? AND NOT (checkpoint_ns = '' AND checkpoint_id = ?)",  # noqa: S608 - names of tables
                    last,
                )
            await cursor.execute(
                "UPDATE checkpoints SET parent_checkpoint_id = NULL, type = ?, checkpoint = ? "
                "WHERE thread_id = ? AND checkpoint_ns = '' AND checkpoint_id = ?",
                (*stored, *last),
            )
            await self.conn.commit()


async def _to_its_end(awaited: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
    """Wait for something to end, also when cancelled meanwhile, and only then be cancelled."""
    task, cancelled = asyncio.ensure_future(awaited), None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # nobody is there to hear of it
        raise cancelled
    return task.result()


_USAGE = tuple(each.name for each in fields(Usage))
_SUPERSEDED = "another attempt runs this turn now"
_OVER = "the turn is over"


def _columns(key: EffectKey) -> tuple[str, str, str]:
    return key.thread, key.scope, key.call_id
