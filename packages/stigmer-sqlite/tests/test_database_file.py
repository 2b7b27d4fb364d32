"""A database as a file, while a store has it open and afterwards."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stigmer_sqlite import (
    Archive,
    DatabaseFile,
    InUseError,
    KindSchema,
    Part,
    Query,
    Record,
    SqliteStore,
    StoreUnavailableError,
    UnsupportedSchemaError,
)
from stigmer_sqlite.database_file import compact, own, put_in_place

Make = Callable[..., Record]


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    return [path.name for path in folder.glob(pattern)]


async def test_a_copy_is_the_state_of_one_moment(file_store: SqliteStore, tmp_path: Path, agent: Make) -> None:
    for number in range(50):
        await file_store.save(agent(f"a{number}"), archive=Archive())
    writing = True

    async def write() -> int:
        """Write pairs, each in one transaction."""
        pairs = 0
        while writing:
            pairs += 1
            names = (f"left{pairs}", f"right{pairs}")
            await file_store.transact(lambda tx, names=names: [tx.save(agent(name)) for name in names])  # type: ignore[misc]
        return pairs

    writer = asyncio.create_task(write())
    for number in range(5):
        target = tmp_path / f"copy{number}.db"
        await asyncio.to_thread(copy, tmp_path / "store.db", target)
        with DatabaseFile(target, immutable=True) as found:
            assert list(found.flaws()) == []
            ids = {record.id for record in found.records()}
        assert {name.removeprefix("left") for name in ids if name.startswith("left")} == {
            name.removeprefix("right") for name in ids if name.startswith("right")
        }
        assert names_in(tmp_path, f"copy{number}.db*") == [target.name]
    writing = False
    assert await writer > 0


def copy(source: Path, target: Path) -> None:
    with DatabaseFile(source) as file, file.snapshot():
        file.copy_to(target)


async def test_a_snapshot_does_not_see_later_writes(file_store: SqliteStore, tmp_path: Path, agent: Make) -> None:
    await file_store.save(agent("a1"))
    with DatabaseFile(tmp_path / "store.db") as file:
        with file.snapshot():
            await file_store.save(agent("a2"))
            assert file.counts() == {"agent": 1}
            assert file.last_sequence() == 1
            assert [record.id for record in file.records()] == ["a1"]
        assert file.counts() == {"agent": 2}


async def test_records_and_history_are_what_the_store_has(file_store: SqliteStore, tmp_path: Path, agent: Make) -> None:
    first = await file_store.save(agent("a1", labels={"team": "core"}), archive=Archive(event="created", tag="v1"))
    second = await file_store.save(agent("a1", name="Ann"), archive=Archive(hash="h"))
    with DatabaseFile(tmp_path / "store.db") as file:
        assert list(file.records()) == [second]
        assert tuple(reversed(list(file.entries()))) == await file_store.history("agent", "a1")
    assert first.version == 1


async def test_recoding_keeps_all_but_the_documents(file_store: SqliteStore, tmp_path: Path, agent: Make) -> None:
    for number in range(25):
        document = {"status": {"phase": "old"}, "metadata": {"name": "Ann"}}
        record = agent(f"a{number}", document=document, wire=b"old", labels={"n": str(number)})
        await file_store.save(record, archive=Archive(event="created", tag="t"))
    await file_store.save(agent("untold"))
    await file_store.save(Record(kind="run", id="r1", data="{}", wire=b"old"))
    before = {record.id: record for record in (await file_store.list(_all())).records}
    changed = json.dumps({"status": {"phase": "new"}, "metadata": {"name": "Ann"}})
    with DatabaseFile(tmp_path / "store.db") as file:
        replaced = await asyncio.to_thread(file.recode, ["agent"], _from_old_to(changed), batch=10)
        # What the history has of the present document is that document itself.
        assert replaced == 25
        assert await asyncio.to_thread(file.recode, ["agent"], _from_old_to(changed), batch=10) == 0
        assert list(file.flaws()) == []
    for record in (await file_store.list(_all())).records:
        was = before[record.id]
        assert (record.version, record.updated_at, record.labels) == (was.version, was.updated_at, was.labels)
        if record.id != "untold":
            assert (record.data, record.wire) == (changed, b"new")
            (entry,) = await file_store.history("agent", record.id)
            assert (entry.data, entry.wire, entry.tag) == (changed, b"new", "t")
    assert (await file_store.get("run", "r1")).wire == b"old"
    assert await file_store.last_sequence() == 27
    assert len((await file_store.list(_all(phase="new"))).records) == 25


def _all(**where: str) -> Query:
    return Query(kind="agent", where=where, limit=1000)


def _from_old_to(data: str) -> Callable[[str, str, str, bytes | None], tuple[str, bytes | None] | None]:
    return lambda kind, id, former, wire: (data, b"new") if wire == b"old" else None


async def test_recoding_and_a_writing_store_lose_nothing_of_each_other(
    file_store: SqliteStore, tmp_path: Path, agent: Make
) -> None:
    for number in range(60):
        await file_store.save(agent(f"a{number}", wire=b"old"), archive=Archive())
    writing = True

    async def write() -> dict[str, int]:
        versions: dict[str, int] = {}
        number = 0
        while writing:
            id = f"a{number % 60}"
            number += 7
            versions[id] = (await file_store.save(agent(id, wire=b"old"))).version
        return versions

    writer = asyncio.create_task(write())
    with DatabaseFile(tmp_path / "store.db") as file:
        for _ in range(2):
            await asyncio.to_thread(file.recode, ["agent"], _from_old_to('{"done": 1}'), batch=20)
        writing = False
        versions = await writer
        await asyncio.to_thread(file.recode, ["agent"], _from_old_to('{"done": 1}'), batch=20)
        assert await asyncio.to_thread(file.recode, ["agent"], _from_old_to('{"done": 1}')) == 0
        assert list(file.flaws()) == []
    records = {record.id: record for record in (await file_store.list(_all())).records}
    assert {record.wire for record in records.values()} == {b"new"}
    assert {id: records[id].version for id in versions} == versions


async def test_recoding_stops_whole_where_the_new_encoding_is_none(
    file_store: SqliteStore, tmp_path: Path, agent: Make
) -> None:
    await file_store.save(agent("a1", wire=b"old"))
    with DatabaseFile(tmp_path / "store.db") as file, pytest.raises(StoreUnavailableError):
        await asyncio.to_thread(file.recode, ["agent"], _from_old_to("no json"))
    assert (await file_store.get("agent", "a1")).wire == b"old"


DAMAGE = {
    "a label of a1 is not among those that are searched": "DELETE FROM resource_labels",
    "a label is searched that a1 does not have": "UPDATE resources SET labels = '{}'",
    "the slug of a1 is unique, or not": "UPDATE resources SET name_key = 7",
    "the history of a1 has version 9": "UPDATE resource_history SET version = 9 WHERE version = 3",
    "the history of a1 has no document for version 1": "UPDATE resource_history SET data = '' WHERE version = 1",
    "a1 was created after the newest change, 0": "UPDATE sqlite_sequence SET seq = 0",
    "the change feed has gaps: 3 changes from 1 to 4": "DELETE FROM changes WHERE sequence = 2",
    "a1 has not as many elements at $.tasks as it says": "DELETE FROM resource_parts WHERE position = 0",
    "a1 does not say that it has an element 1 at $.tasks": "UPDATE resources SET lengths = '{\"$.tasks\": 1}'",
    "of resource_history belongs to a row of resources that does not exist": "DELETE FROM resources",
}


@pytest.mark.parametrize("flaw", DAMAGE)
async def test_what_contradicts_itself_is_told(tmp_path: Path, agent: Make, flaw: str) -> None:
    path = tmp_path / "store.db"
    await _filled(path, agent)
    with DatabaseFile(path) as file:
        assert list(file.flaws()) == []
    with sqlite3.connect(path) as connection:
        connection.execute(DAMAGE[flaw])
    connection.close()
    with DatabaseFile(path) as file:
        assert flaw in "\n".join(file.flaws())


async def _filled(path: Path, agent: Make) -> None:
    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        for _ in range(3):
            await store.save(agent("a1", labels={"team": "core"}), archive=Archive())
        tasks = tuple(Part(path="$.tasks", position=position, key="", data="1") for position in range(2))
        await store.transact(lambda tx: tx.save(replace(tx.head("agent", "a1"), lengths={"$.tasks": 2}, parts=tasks)))


async def test_damaged_pages_are_told(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    await _filled(path, agent)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 8)
    with DatabaseFile(path) as opened:
        assert list(opened.flaws()) != []


async def test_only_a_database_of_ours_is_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="there is no database"):
        DatabaseFile(tmp_path / "none.db")
    assert names_in(tmp_path) == []
    (tmp_path / "text.db").write_text("this is no database, and far from being one" * 100)
    with pytest.raises(StoreUnavailableError):
        DatabaseFile(tmp_path / "text.db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(UnsupportedSchemaError):
        DatabaseFile(tmp_path / "other.db")


async def test_a_database_takes_anothers_place_with_all_that_its_log_held(tmp_path: Path, agent: Make) -> None:
    path, new = tmp_path / "store.db", tmp_path / "new.db"
    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        await store.save(agent("a1"))
        copy(path, new)
        await store.save(agent("a2"))
        identity = await store.identity()
        with pytest.raises(InUseError):
            own(path)
        # As a killed process leaves it: with a log that was not folded in.
        left = {name: (tmp_path / name).read_bytes() for name in ("store.db", "store.db-wal")}
    for name, content in left.items():
        (tmp_path / name).write_bytes(content)
    with own(path) as owned:
        kept = put_in_place(new, owned)
    assert kept is not None
    with DatabaseFile(path) as file, DatabaseFile(kept) as old:
        assert [record.id for record in file.records()] == ["a1"]
        assert [record.id for record in old.records()] == ["a1", "a2"]
    assert not new.exists()
    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        assert await store.identity() != identity
    with own(tmp_path / "elsewhere.db") as owned:
        assert put_in_place(kept, owned) is None


async def test_a_damaged_database_is_replaced_and_kept(tmp_path: Path, agent: Make) -> None:
    path, new = tmp_path / "store.db", tmp_path / "new.db"
    await _filled(path, agent)
    copy(path, new)
    path.write_bytes(b"damaged" * 1000)
    (tmp_path / "store.db-wal").write_bytes(b"damaged, too")
    with own(path) as owned:
        kept = put_in_place(new, owned)
    assert kept is not None
    assert kept.read_bytes() == b"damaged" * 1000
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"damaged, too"
    with DatabaseFile(path) as file:
        assert list(file.flaws()) == []


async def test_compacting_gives_back_what_deleted_records_took(tmp_path: Path, agent: Make) -> None:
    path = tmp_path / "store.db"
    async with await SqliteStore.open(path, [KindSchema(kind="agent")]) as store:
        for number in range(50):
            await store.save(agent(f"a{number}", document={"pad": "x" * 20_000}))
        for number in range(49):
            await store.delete("agent", f"a{number}")
    with own(path) as owned:
        before, after = compact(owned)
    assert after < before / 5
    assert path.stat().st_size == after
    with DatabaseFile(path) as file:
        assert [record.id for record in file.records()] == ["a49"]
        assert list(file.flaws()) == []


async def test_the_history_has_no_second_copy_of_the_present_document(
    file_store: SqliteStore, tmp_path: Path, agent: Make
) -> None:
    first = await file_store.save(agent("a1", name="Ann", wire=b"1"), expected=0, archive=Archive())
    kept = "SELECT version, data, wire FROM resource_history ORDER BY version"
    with sqlite3.connect(tmp_path / "store.db") as database:
        assert database.execute(kept).fetchall() == [(1, "", None)]
        (entry,) = await file_store.history("agent", "a1")
        assert (entry.data, entry.wire) == (first.data, b"1")
        await file_store.save(agent("a1", name="Bea", wire=b"2"))
        third = await file_store.save(agent("a1", name="Cleo", wire=b"3"), archive=Archive(tag="t"))
        assert database.execute(kept).fetchall() == [(1, first.data, b"1"), (3, "", None)]
    database.close()
    assert (await file_store.archived("agent", "a1", version=1)).data == first.data
    assert (await file_store.archived("agent", "a1", tag="t")).data == third.data
    with DatabaseFile(tmp_path / "store.db") as file:
        assert [entry.data for entry in file.entries()] == [first.data, third.data]
