"""Storage that fails: what was acknowledged stays, what failed leaves nothing, and the store goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stigmer_sqlite import KindSchema, NotFoundError, Query, Record, SqliteStore, StoreUnavailableError, Transaction

Make = Callable[..., Record]

FULL = """
import asyncio, os, resource, sys
from stigmer_sqlite import Archive, KindSchema, NotFoundError, Query, Record, SqliteStore, StoreUnavailableError

path, schemas = sys.argv[1], [KindSchema(kind="agent", indexes={"n": "$.n"})]
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

def record(id):
    return Record(kind="agent", id=id, slug=id, labels={"l": id}, data='{"n": "%s", "pad": "%s"}' % (id, "x" * 20_000))

async def check(store, stored, failed):
    assert await store.last_sequence() == len(stored)
    page = await store.list(Query(kind="agent", limit=5000, newest_first=False))
    assert {r.id for r in page.records} == stored
    for id in failed:
        try:
            await store.get("agent", id)
        except NotFoundError:
            pass
        else:
            raise AssertionError(f"{id} failed and is there")
        assert not (await store.list(Query(kind="agent", labels={"l": id}))).records
        assert not (await store.list(Query(kind="agent", where={"n": id}))).records
        assert not await store.history("agent", id)
    watch = store.watch(after=0)
    assert [(await anext(watch)).id for _ in stored] == [r.id for r in page.records]

async def main():
    store = await SqliteStore.open(path, schemas)
    stored, failed = set(), set()

    async def write(id):
        try:
            await store.save(record(id), archive=Archive(tag="t"))
        except StoreUnavailableError as error:
            assert error.__cause__ is not None
            failed.add(id)
        else:
            stored.add(id)

    for i in range(20):
        await write(f"before{i}")
    assert not failed
    limit = os.path.getsize(path + "-wal") + 600_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    for round in range(10):
        await asyncio.gather(*(write(f"r{round}-{i}") for i in range(10)))
    try:
        await store.save(Record(kind="agent", id="huge", data='"' + "x" * 5_000_000 + '"'))
    except StoreUnavailableError:
        failed.add("huge")
    assert len(failed) > 10 and len(stored) > 20, (len(failed), len(stored))
    await check(store, stored, failed)
    told = store.statistics()
    assert told.failed_commits > 0 and told.fault, told
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await asyncio.gather(*(write(f"after{i}") for i in range(20)))
    assert {f"after{i}" for i in range(20)} <= stored
    await check(store, stored, failed)
    await store.close()
    store = await SqliteStore.open(path, schemas)
    await check(store, stored, failed)
    await store.close()
    print("fine")

asyncio.run(main())
"""


def test_a_full_disk_fails_writes_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.stdout == "fine\n", ended.stderr[-4000:]
    assert integrity(path) == "ok"


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    return found


READ_ONLY = """
import asyncio, os, sys
from stigmer_sqlite import KindSchema, SqliteStore, StoreUnavailableError
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
async def main():
    try:
        await SqliteStore.open(sys.argv[1], [KindSchema(kind="agent")])
    except StoreUnavailableError as error:
        print(type(error).__name__, error)
asyncio.run(main())
"""


async def create(path: Path) -> None:
    await (await SqliteStore.open(path, [])).close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("lock", ["absent", "present"])
def test_a_database_that_may_not_be_written_is_unavailable(open_folder: Path, lock: str) -> None:
    path = open_folder / "store.db"
    asyncio.run(create(path))
    path.chmod(0o444)
    if lock == "present":
        (open_folder / "store.db.lock").chmod(0o666)
    else:
        (open_folder / "store.db.lock").unlink()
    open_folder.chmod(0o555)

    command = [sys.executable, "-c", READ_ONLY, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert ended.stdout.startswith("StoreUnavailableError"), ended.stderr
    assert "readonly" in ended.stdout or "Permission denied" in ended.stdout or "unable to open" in ended.stdout


async def test_a_database_that_becomes_read_only_is_still_read_and_recovers(
    file_store: SqliteStore, agent: Make
) -> None:
    await file_store.save(agent("a1"))
    writing: sqlite3.Connection = file_store._writer._connection
    writing.execute("PRAGMA query_only = ON")

    outcomes = await asyncio.gather(*(file_store.save(agent(f"b{i}")) for i in range(5)), return_exceptions=True)

    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes)
    assert (await file_store.get("agent", "a1")).version == 1
    with pytest.raises(NotFoundError):
        await file_store.get("agent", "b0")
    writing.execute("PRAGMA query_only = OFF")
    assert (await file_store.save(agent("b0"))).version == 1
    assert await file_store.last_sequence() == 2


async def test_a_storage_failure_that_work_swallows_still_fails_it(file_store: SqliteStore, agent: Make) -> None:
    writing: sqlite3.Connection = file_store._writer._connection

    def work(tx: Transaction) -> str:
        tx.save(agent("a1"))
        writing.execute("PRAGMA query_only = ON")
        try:
            tx.save(agent("a2"))
        except StoreUnavailableError:
            writing.execute("PRAGMA query_only = OFF")
        return "done"

    with pytest.raises(StoreUnavailableError):
        await file_store.transact(work)

    assert (await file_store.list(Query(kind="agent"))).records == ()


def scribble_over(path: Path, *, beginning: int) -> None:
    with path.open("r+b") as file:
        file.seek(beginning)
        file.write(os.urandom(path.stat().st_size - beginning))


async def test_a_corrupt_database_is_unavailable(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    schemas = [KindSchema(kind="agent")]
    async with await SqliteStore.open(path, schemas) as store:
        await store.transact(lambda tx: [tx.save(agent(f"a{i}", name="x" * 500)) for i in range(200)])
    scribble_over(path, beginning=3 * 4096)

    async def use() -> None:
        async with await SqliteStore.open(path, schemas) as store:
            await store.list(Query(kind="agent", limit=200))

    with pytest.raises(StoreUnavailableError):
        await use()


async def test_a_writer_from_outside_is_waited_for_without_holding_up_readers(
    tmp_path: Path, file_store: SqliteStore, agent: Make
) -> None:
    await file_store.save(agent("a1"))
    outside = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    outside.execute("BEGIN IMMEDIATE")
    saving = asyncio.create_task(file_store.save(agent("a2")))
    for _ in range(100):
        await asyncio.sleep(0)
        assert (await file_store.get("agent", "a1")).version == 1
    assert not saving.done()

    outside.execute("ROLLBACK")
    outside.close()

    assert (await asyncio.wait_for(saving, 20)).version == 1
    assert (await file_store.save(agent("a2"))).version == 2


async def test_a_clock_set_back_does_not_turn_back_times(
    file_store: SqliteStore, agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await file_store.save(agent("a1"))

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2001, 1, 1, tzinfo=UTC)

    monkeypatch.setattr("stigmer_sqlite.records.datetime", Earlier)
    second = await file_store.save(agent("a2"))

    assert first.updated_at is not None
    assert second.updated_at is not None
    assert second.updated_at > first.updated_at
