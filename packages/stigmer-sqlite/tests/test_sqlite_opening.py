"""Opening a database: its schema and indexes, its one owner, and files that are not ours."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database

from stigmer_sqlite import (
    Archive,
    DatabaseFile,
    InUseError,
    InvalidSchemaError,
    KindSchema,
    LabelTerm,
    Part,
    Query,
    Record,
    SlugTakenError,
    SqliteStore,
    StoreUnavailableError,
    UnsupportedSchemaError,
)
from stigmer_sqlite.connections import open_writer
from stigmer_sqlite.migrations import migrations
from stigmer_sqlite.schema import STEPS

Make = Callable[..., Record]


def declared_indexes(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'where!_%' ESCAPE '!'"
        )
        found = {row[0] for row in rows}
    connection.close()
    return found


def files_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def test_everything_is_there_after_reopening(
    tmp_path: Path, schemas: tuple[KindSchema, ...], agent: Make
) -> None:
    path = tmp_path / "new" / "folder" / "store.db"
    async with await SqliteStore.open(path, schemas) as store:
        saved = await store.save(agent("a1", labels={"l": "x"}, org_id="o"), archive=Archive(tag="t"))
        await store.save(agent("a2"))
        await store.compact(keep=0)

    async with await SqliteStore.open(str(path), schemas) as store:
        assert await store.get("agent", "a1") == saved
        assert (await store.list(Query(kind="agent", labels={"l": "x"}))).records == (saved,)
        assert (await store.archived("agent", "a1", tag="t")).version == 1
        assert await store.last_sequence() == 2
        watch = store.watch()
        await store.save(agent("a3"))
        assert (await asyncio.wait_for(anext(watch), 10)).sequence == 3
        assert [record.id for record in (await store.list(Query(kind="agent"))).records] == ["a3", "a2", "a1"]


async def test_the_table_is_the_same_for_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for kinds in (["a"], ["a", "b"], ["b"]):
        async with await SqliteStore.open(path, [KindSchema(kind=kind) for kind in kinds]) as store:
            for kind in kinds:
                await store.save(Record(kind=kind, id=f"{kind}-{len(kinds)}", data="{}"))

    connection = sqlite3.connect(path)
    columns = {row[1]: row[5] for row in connection.execute("PRAGMA table_info(resources)")}
    migrations = connection.execute("SELECT count(*) FROM _sqlite_migrations").fetchone()[0]
    connection.close()
    assert {"id", "kind", "org_id", "project_id", "slug", "data", "version", "updated_at"} <= columns.keys()
    assert [name for name, key in columns.items() if key] == ["id"]
    assert migrations == 4


async def test_a_database_of_the_first_schema_is_brought_up_to_date(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    connection = open_writer(path)
    migrations.apply(Database(connection, execute_plugins=False), stop_before="m002_revisions")
    for position, id in enumerate(["a1", "a2"], start=1):
        connection.execute(
            "INSERT INTO resources (id, kind, org_id, project_id, slug, name_key, position, version, updated_at, "
            "labels, search, data) VALUES (?, 'agent', '', '', ?, 0, ?, 5, '2026-01-01T00:00:00.000000+00:00', "
            """'{"team":"blue"}', ?, '{"metadata": {"name": "Ann"}}')""",
            (id, f"s-{id}", position, f"s-{id}\nann"),
        )
        connection.execute("INSERT INTO resource_labels VALUES ('agent', 'team', 'blue', ?, ?)", (position, id))
        connection.execute("INSERT INTO changes VALUES (?, 'created', 'agent', ?, '', '', 1)", (position, id))
        for version in (2, 5):
            connection.execute(
                "INSERT INTO resource_history VALUES (?, ?, 'agent', 'updated', ?, 'h', "
                "'2026-01-01T00:00:00.000000+00:00', '{}', NULL)",
                (id, version, f"t{version}"),
            )
    connection.close()

    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        entries = await store.history("agent", "a2")
        assert [(e.number, e.version, e.tag, e.actor, e.message) for e in entries] == [
            (2, 5, "t5", "", ""),
            (1, 2, "t2", "", ""),
        ]
        assert (await store.archived("agent", "a1", hash="h")).version == 5
        assert (await anext(store.watch(after=1))).labels == {}
        for query in (Query(kind="agent", text="A2"), Query(kind="agent", selector=[LabelTerm(key="team")], limit=1)):
            assert [record.id for record in (await store.list(query)).records] == ["a2"]
        saved = await store.save(await store.get("agent", "a1"), archive=Archive(actor="me"))
        assert (saved.version, saved.position) == (6, 1)
        assert [entry.number for entry in await store.history("agent", "a1")] == [3, 2, 1]
        identity = await store.identity()
        await store.delete("agent", "a1")
        assert await store.history("agent", "a1") == ()

    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        assert await store.identity() == identity


async def test_indexes_follow_their_declarations(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for indexes in ({}, {"a": "$.a"}, {"a": "$.a", "b": "$.b"}, {"b": "$.other"}, {}):
        schema = KindSchema(kind="agent", indexes=indexes)
        async with await SqliteStore.open(path, [schema, KindSchema(kind="run", indexes={"x": "$.x"})]) as store:
            await store.save(Record(kind="agent", id="a1", data='{"a": "1", "b": "2", "other": "3"}'))
            for name in indexes:
                value = {"$.a": "1", "$.b": "2", "$.other": "3"}[indexes[name]]
                assert len((await store.list(Query(kind="agent", where={name: value}))).records) == 1
        assert declared_indexes(path) == {"where_run.x", *(f"where_agent.{name}" for name in indexes)}


async def test_the_records_of_a_kind_that_is_no_longer_declared_stay(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    schema = KindSchema(kind="agent", indexes={"phase": "$.status.phase"})
    async with await SqliteStore.open(path, [schema]) as store:
        saved = await store.save(agent("a1", phase="ready"))
    async with await SqliteStore.open(path, []):
        assert declared_indexes(path) == set()
    async with await SqliteStore.open(path, [schema]) as store:
        assert (await store.list(Query(kind="agent", where={"phase": "ready"}))).records == (saved,)


async def test_a_kind_may_begin_and_cease_to_be_named(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    named, unnamed = KindSchema(kind="agent"), KindSchema(kind="agent", named=False)
    async with await SqliteStore.open(path, [named]) as store:
        await store.save(agent("a1", slug="ann"))
    async with await SqliteStore.open(path, [unnamed]) as store:
        second = await store.save(agent("a2", slug="ann"))
        assert await store.find("agent", org_id="", slug="ann") == second
    with pytest.raises(InvalidSchemaError, match="slugs repeat"):
        await SqliteStore.open(path, [named])
    async with await SqliteStore.open(path, [unnamed]) as store:
        await store.delete("agent", "a2")
    async with await SqliteStore.open(path, [named]) as store:
        with pytest.raises(SlugTakenError):
            await store.save(agent("a3", slug="ann"))


@pytest.mark.parametrize(
    "schemas",
    [
        [KindSchema(kind="a"), KindSchema(kind="a")],
        [KindSchema(kind="")],
        [KindSchema(kind="a'b")],
        [KindSchema(kind="a", indexes={'x"': "$.a"})],
        *(
            [KindSchema(kind="a", indexes={"x": path})]
            for path in ("", "$", "a", "$.", "$.a'", "$[a]", "$.a b", '$."', "$.*")
        ),
    ],
)
async def test_a_malformed_schema_is_refused(tmp_path: Path, schemas: list[KindSchema]) -> None:
    with pytest.raises(InvalidSchemaError):
        await SqliteStore.open(tmp_path / "store.db", schemas)

    assert files_in(tmp_path) == set()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await SqliteStore.open(path, [])).close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('stigmer-sqlite', 'm999_future')")
    connection.commit()
    connection.close()
    before = path.read_bytes()

    with pytest.raises(UnsupportedSchemaError, match="m999_future"):
        await SqliteStore.open(path, [KindSchema(kind="agent", indexes={"x": "$.x"})])

    assert path.read_bytes() == before


async def test_the_database_of_another_application_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE resources (kind TEXT, id TEXT, data BLOB)")
    connection.commit()
    connection.close()
    before = path.read_bytes()

    with pytest.raises(UnsupportedSchemaError, match="another application"):
        await SqliteStore.open(path, [])

    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"certainly no database" * 100)

    with pytest.raises(StoreUnavailableError, match="not a database"):
        await SqliteStore.open(path, [])

    assert path.read_bytes() == b"certainly no database" * 100


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        await SqliteStore.open(tmp_path, [])
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError):
        await SqliteStore.open(tmp_path / "file" / "store.db", [])


async def test_a_database_has_one_owner_under_all_its_names(tmp_path: Path) -> None:
    path, link = tmp_path / "store.db", tmp_path / "link.db"
    link.symlink_to(path)
    async with await SqliteStore.open(path, []):
        for name in (path, link, tmp_path / "." / "store.db"):
            with pytest.raises(InUseError) as failure:
                await SqliteStore.open(name, [])
            assert failure.value.holder == os.getpid()
    await (await SqliteStore.open(link, [])).close()


HOLD = """
import asyncio, sys
from stigmer_sqlite import KindSchema, SqliteStore
async def main():
    store = await SqliteStore.open(sys.argv[1], [KindSchema(kind="agent")])
    print("open", flush=True)
    sys.stdin.read()
    await store.close()
asyncio.run(main())
"""


@pytest.mark.parametrize("killed", [True, False])
async def test_the_second_process_is_told_the_first_and_follows_it(tmp_path: Path, *, killed: bool) -> None:
    path = tmp_path / "store.db"
    holder = subprocess.Popen(  # noqa: ASYNC220 # its first line is waited for right below
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert await asyncio.wait_for(asyncio.to_thread(holder.stdout.readline), 30) == "open\n"
        with pytest.raises(InUseError, match=f"process {holder.pid}") as failure:
            await SqliteStore.open(path, [])
        assert failure.value.holder == holder.pid
        if killed:
            holder.kill()
        else:
            holder.stdin.close()
        await asyncio.wait_for(asyncio.to_thread(holder.wait), 30)

    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        assert await store.last_sequence() == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # which is what the test is about
async def test_a_forked_child_does_not_keep_the_database(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", [])
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    assert await asyncio.to_thread(os.read, ready[0], 1) == b"x"
    await store.close()

    await (await SqliteStore.open(tmp_path / "store.db", [])).close()

    os.write(go[1], b"x")
    await asyncio.to_thread(os.waitpid, child, 0)
    for end in (*ready, *go):
        os.close(end)


async def test_opening_that_is_cancelled_leaves_the_database_free(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for rounds in range(5):
        opening = asyncio.create_task(SqliteStore.open(path, []))
        for _ in range(rounds):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    async def until_free() -> SqliteStore:
        while True:
            try:
                return await SqliteStore.open(path, [])
            except InUseError:
                await asyncio.sleep(0)

    await (await asyncio.wait_for(until_free(), 20)).close()


async def test_every_connection_has_every_setting(tmp_path: Path) -> None:
    async with await SqliteStore.open(tmp_path / "store.db", [], readers=3) as store:
        assert store._readers is not None
        connections = [store._writer_connection, store._near_connection, *store._readers._connections]
        assert len(connections) == 5
        for connection in connections:
            for setting, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                assert connection.execute(f"PRAGMA {setting}").fetchone()[0] == value
        for connection in connections[1:]:
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.execute("DELETE FROM resources")


async def test_closing_leaves_one_file_that_holds_everything(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        await store.save(agent("a1"))

    assert files_in(tmp_path) == {"store.db", "store.db.lock"}
    (tmp_path / "store.db.lock").unlink()
    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        assert (await store.get("agent", "a1")).version == 1


async def test_records_of_a_database_without_parts_may_get_some(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    schemas = [KindSchema(kind="agent", indexes={"phase": "$.status.phase"})]
    old = open_writer(path)
    migrations.apply(Database(old, execute_plugins=False), stop_before="m003_parts")
    old.execute(
        "INSERT INTO resources (id, kind, org_id, project_id, slug, name_key, position, version, updated_at, labels,"
        " search, data, wire) VALUES ('a1', 'agent', 'o', '', 'ann', 0, 1, 1, '2026-01-01T00:00:00.000000+00:00',"
        " '{}', 'ann', '{\"status\": {\"phase\": \"ready\"}}', x'01')"
    )
    old.execute("INSERT INTO changes VALUES (1, 'created', 'agent', 'a1', 'o', 'ann', 1, '{}', NULL)")
    old.close()
    with DatabaseFile(path) as file:
        assert [record.id for record in file.records()] == ["a1"]
        assert list(file.flaws()) == []

    async with await SqliteStore.open(path, schemas) as store:
        record = await store.get("agent", "a1")
        assert (record.version, record.wire, record.lengths, record.parts) == (1, b"\x01", {}, ())
        tasks = (Part(path="$.status.tasks", position=0, key="", data="1"),)
        await store.save(replace(record, lengths={"$.status.tasks": 1}, parts=tasks))
    async with await SqliteStore.open(path, schemas) as store:
        assert (await store.get("agent", "a1")).parts == tasks
        assert (await store.list(Query(kind="agent", where={"phase": "ready"}))).records[0].version == 2


async def test_whole_documents_can_be_read_with_sql(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    parts = (
        Part(path='$.status."odd key"', position=0, key="", data='"x"'),
        *(Part(path="$.status.tasks", position=i, key="", data=f'{{"n": {i}}}') for i in range(3)),
    )
    lengths = {"$.status.tasks": 3, "$.status.none": 0, '$.status."odd key"': 1}
    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        await store.save(agent("a1", name="Ann", phase="ready", lengths=lengths, parts=parts))
        await store.save(agent("a2", name="Bob", phase="ready"))

    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT id, data FROM documents"))
    connection.close()
    assert json.loads(found["a1"]) == {
        "metadata": {"name": "Ann"},
        "status": {"phase": "ready", "tasks": [{"n": 0}, {"n": 1}, {"n": 2}], "none": [], "odd key": ["x"]},
    }
    assert json.loads(found["a2"]) == {"metadata": {"name": "Bob"}, "status": {"phase": "ready"}}


def test_every_step_is_known_without_the_library_that_takes_it() -> None:
    pending = migrations.pending(Database(memory=True, execute_plugins=False))
    assert [step.name for step in pending] == list(STEPS)


def test_a_database_that_is_up_to_date_needs_no_library_to_open(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    script = (
        "import asyncio, sys; from stigmer_sqlite import SqliteStore\n"
        "async def main(): await (await SqliteStore.open(sys.argv[1], [])).close()\n"
        "asyncio.run(main()); print('sqlite_utils' in sys.modules)"
    )
    for loaded in (True, False):
        ended = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == str(loaded)


async def test_a_new_database_is_its_owners_alone_and_one_that_is_there_stays_as_it_is(
    tmp_path: Path, schemas: tuple[KindSchema, ...], agent: Make
) -> None:
    path = tmp_path / "new" / "store.db"
    async with await SqliteStore.open(path, schemas) as store:
        await store.save(agent("a1"))
        assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == dict.fromkeys(
            ["store.db", "store.db-shm", "store.db-wal", "store.db.lock"], 0o600
        )
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o640)
    async with await SqliteStore.open(path, schemas) as store:
        assert (await store.get("agent", "a1")).id == "a1"
    assert path.stat().st_mode & 0o777 == 0o640
