"""A process killed at any point: nothing acknowledged is lost, nothing is torn, and the next one serves at once."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from stigmer_sqlite import KindSchema, Query, SqliteStore

SCHEMAS = [KindSchema(kind="agent", indexes={"writer": "$.writer"})]
ROUNDS = 8
WRITERS = 8

STRAY_LABELS = """
SELECT count(*) FROM resource_labels AS l
LEFT JOIN resources AS r ON r.id = l.id AND r.position = l.position AND r.kind = l.kind
WHERE r.id IS NULL OR json_extract(r.labels, '$.' || l.key) <> l.value
"""

WRITE = """
import asyncio, hashlib, json, os, sys
from stigmer_sqlite import Archive, KindSchema, Record, SqliteStore

path, round, writers = sys.argv[1], sys.argv[2], int(sys.argv[3])

def document(writer, n):
    text = f"{writer}:{n}:" + "x" * (n * 37 % 5000)
    return json.dumps({"writer": writer, "text": text, "sum": hashlib.sha256(text.encode()).hexdigest()})

async def write(store, writer):
    n = 0
    while True:
        n += 1
        if n % 7 == 0:
            await store.delete("agent", f"{round}-{writer}-{n - 3}")
            os.write(1, f"gone {round}-{writer}-{n - 3} 0\\n".encode())
            continue
        # Every resource is written twice, so that updates are killed too.
        for _ in range(2):
            id = f"{round}-{writer}-{n}"
            record = Record(kind="agent", id=id, slug=id, labels={"w": str(writer)}, data=document(writer, n))
            saved = await store.save(record, archive=Archive(event="saved"))
            os.write(1, f"kept {id} {saved.version}\\n".encode())

async def main():
    store = await SqliteStore.open(path, [KindSchema(kind="agent", indexes={"writer": "$.writer"})])
    await asyncio.gather(*(write(store, writer) for writer in range(writers)))

asyncio.run(main())
"""


def write_until_killed(path: Path, number: int, *, acknowledgements: int) -> tuple[dict[str, int], set[str]]:
    """Return the versions and the deletions that a writer acknowledged before it was killed."""
    kept: dict[str, int] = {}
    gone: set[str] = set()
    command = [sys.executable, "-c", WRITE, str(path), str(number), str(WRITERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        for count, line in enumerate(writer.stdout, start=1):
            if not line.endswith("\n"):
                break  # killed in the middle of saying it
            verb, id, version = line.split()
            if verb == "kept":
                kept[id] = int(version)
            else:
                gone.add(id)
                kept.pop(id, None)
            if count == acknowledgements:
                writer.kill()
        errors = writer.stderr.read()
    assert writer.returncode == -9, errors
    return kept, gone


async def check(path: Path, kept: dict[str, int], gone: set[str], *, known: set[str]) -> set[str]:
    """Check the database against what was acknowledged; return the ids that are stored."""
    async with await SqliteStore.open(path, SCHEMAS) as store:
        records = (await store.list(Query(kind="agent", limit=10_000))).records
        by_id = {record.id: record for record in records}
        for id, version in kept.items():
            assert by_id[id].version >= version, f"{id} was acknowledged at version {version}"
        assert not gone & by_id.keys()
        assert known <= by_id.keys()
        for record in records:
            document = json.loads(record.data)
            assert hashlib.sha256(document["text"].encode()).hexdigest() == document["sum"]
            versions = [entry.version for entry in await store.history("agent", record.id)]
            assert versions == list(range(record.version, 0, -1))
            assert await store.find("agent", org_id="", slug=record.id) == record
        for writer in range(WRITERS):
            ids = {record.id for record in records if json.loads(record.data)["writer"] == writer}
            for query in (
                Query(kind="agent", limit=10_000, where={"writer": writer}),
                Query(kind="agent", limit=10_000, labels={"w": str(writer)}),
            ):
                assert {record.id for record in (await store.list(query)).records} == ids
        await check_changes(store, {record.id: record.version for record in records})
        return set(by_id)


async def check_changes(store: SqliteStore, versions: dict[str, int]) -> None:
    replayed: dict[str, int] = {}
    watch = store.watch(after=0)
    for sequence in range(1, await store.last_sequence() + 1):
        change = await anext(watch)
        assert change.sequence == sequence
        if change.operation.value == "deleted":
            del replayed[change.id]
        else:
            assert change.version == replayed.get(change.id, 0) + 1
            replayed[change.id] = change.version
    assert replayed == versions


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    seeded = random.Random(20261122)
    known: set[str] = set()
    acknowledged = 0
    for number in range(ROUNDS):
        kept, gone = write_until_killed(path, number, acknowledgements=seeded.randint(1, 400))
        acknowledged += len(kept)
        known = await check(path, kept, gone, known=known)
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute(STRAY_LABELS).fetchone()[0] == 0
        connection.close()

    assert acknowledged > 100
