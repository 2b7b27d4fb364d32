"""The contract, over every store: single records, their versions and names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stigmer_sqlite import (
    ClosedError,
    ConflictError,
    IdTakenError,
    InvalidRecordError,
    NotFoundError,
    Query,
    Record,
    ResourceStore,
    SlugTakenError,
    UnknownKindError,
)

Make = Callable[..., Record]


async def test_a_saved_record_is_read_back_as_it_was(store: ResourceStore) -> None:
    record = Record(
        kind="agent",
        id="agt_1",
        org_id="org",
        project_id="project",
        slug="ann",
        data=' {"b": 1.0, "a": [true, null, "é\\u0000"]} ',
        wire=b"\x00\xff",
        labels={"team": "blue", "ключ": "значение"},
    )

    saved = await store.save(record)

    assert await store.get("agent", "agt_1") == saved
    assert saved == replace(record, version=1, updated_at=saved.updated_at, position=1)


async def test_a_record_keeps_its_place_in_the_order_of_creation(store: ResourceStore, agent: Make) -> None:
    watch = store.watch()
    for id in ("a1", "a2"):
        await store.save(agent(id))
    updated = await store.save(replace(await store.get("agent", "a1"), position=99))

    assert (updated.position, (await store.get("agent", "a2")).position) == (1, 2)
    assert [(await anext(watch)).sequence for _ in range(3)] == [1, 2, 3]
    await store.delete("agent", "a1")
    assert (await store.save(agent("a1"))).position == 5


async def test_updated_at_is_utc_now(store: ResourceStore, agent: Make) -> None:
    saved = await store.save(agent("a1"))

    assert saved.updated_at is not None
    assert saved.updated_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - saved.updated_at) < timedelta(minutes=1)


async def test_every_write_has_a_later_time_and_the_next_version(store: ResourceStore, agent: Make) -> None:
    saved = [await store.save(agent("a1")) for _ in range(50)]
    times = [record.updated_at for record in saved if record.updated_at is not None]

    assert [record.version for record in saved] == list(range(1, 51))
    assert times == sorted(set(times))
    assert len(times) == 50


async def test_the_given_version_and_time_are_ignored(store: ResourceStore, agent: Make) -> None:
    saved = await store.save(replace(agent("a1"), version=7, updated_at=datetime(2001, 1, 1, tzinfo=UTC)))

    assert saved.version == 1
    assert saved.updated_at is not None
    assert saved.updated_at.year > 2001


async def test_a_record_without_wire_form_has_none(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", wire=b""))
    await store.save(agent("a2"))

    assert (await store.get("agent", "a1")).wire == b""
    assert (await store.get("agent", "a2")).wire is None


@pytest.mark.parametrize(
    "id", ["-_.:/@+", "a b", "%_[*]?", "'; DROP TABLE resources; --", '"', "日本語", "🦀", "\n\t\x01", "x" * 10_000]
)
async def test_an_id_may_be_any_text(store: ResourceStore, id: str) -> None:
    saved = await store.save(Record(kind="run", id=id, slug=id, org_id=id, labels={id: id}, data="{}"))

    assert await store.get("run", id) == saved
    assert await store.find("run", org_id=id, slug=id) == saved
    assert (await store.list(Query(kind="run", org_id=id, labels={id: id}, text=id))).records == (saved,)
    assert await store.delete("run", id) == saved


@pytest.mark.parametrize("text", ["a\0b", "a\ud800"])
@pytest.mark.parametrize("field", ["id", "org_id", "project_id", "slug", "data"])
async def test_text_that_cannot_be_stored_exactly_is_refused(store: ResourceStore, field: str, text: str) -> None:
    record = replace(Record(kind="agent", id="a1", data="{}"), **{field: f'"{text}"'})

    with pytest.raises(InvalidRecordError, match=f"{field} of agent"):
        await store.save(record)

    assert (await store.list(Query(kind="agent"))).records == ()


async def test_labels_that_cannot_be_stored_exactly_are_refused(store: ResourceStore, agent: Make) -> None:
    with pytest.raises(InvalidRecordError, match="label key"):
        await store.save(agent("a1", labels={"a\0": "b"}))
    with pytest.raises(InvalidRecordError, match="label 'a'"):
        await store.save(agent("a1", labels={"a": "\udfff"}))


async def test_an_empty_id_is_refused(store: ResourceStore, agent: Make) -> None:
    with pytest.raises(InvalidRecordError):
        await store.save(agent(""))


@pytest.mark.parametrize("data", ["", "{", "{'a': 1}", "NaN", "[1,]", "{} {}", "\ufeff{}"])
async def test_a_document_that_is_no_json_is_refused(store: ResourceStore, data: str) -> None:
    with pytest.raises(InvalidRecordError, match="not JSON"):
        await store.save(Record(kind="agent", id="a1", data=data))

    with pytest.raises(NotFoundError):
        await store.get("agent", "a1")


@pytest.mark.parametrize("data", ["12", "1.50", '"text"', "null", "[]", "true"])
async def test_a_document_may_be_any_json(store: ResourceStore, data: str) -> None:
    await store.save(Record(kind="agent", id="a1", data=data))

    assert (await store.get("agent", "a1")).data == data


async def test_a_name_with_a_lone_surrogate_escape_is_refused(store: ResourceStore) -> None:
    with pytest.raises(InvalidRecordError):
        await store.save(Record(kind="agent", id="a1", data='{"metadata": {"name": "\\ud800"}}'))


async def test_a_large_document_is_stored(store: ResourceStore) -> None:
    data = '{"text": "' + "x" * 50_000_000 + '"}'
    await store.save(Record(kind="agent", id="a1", data=data, wire=b"w" * 1_000_000))

    read = await store.get("agent", "a1")

    assert read.data == data
    assert read.wire == b"w" * 1_000_000


async def test_what_is_not_there_is_not_found(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"))

    for kind, id in (("agent", "a2"), ("run", "a1"), ("agent", "\ud800"), ("agent", "a1\0")):
        with pytest.raises(NotFoundError) as failure:
            await store.get(kind, id)
        assert (failure.value.kind, failure.value.id) == (kind, id)


async def test_an_undeclared_kind_is_refused_by_every_verb(store: ResourceStore) -> None:
    calls = (
        store.get("ghost", "g1"),
        store.find("ghost", org_id=None, slug="g"),
        store.list(Query(kind="ghost")),
        store.save(Record(kind="ghost", id="g1", data="{}")),
        store.delete("ghost", "g1"),
        store.delete_kind("ghost"),
        store.history("ghost", "g1"),
        store.archived("ghost", "g1", version=1),
    )
    for call in calls:
        with pytest.raises(UnknownKindError, match="ghost"):
            await call
    with pytest.raises(UnknownKindError):
        store.watch(kinds=["ghost"])


async def test_expecting_nothing_creates_only_once(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"), expected=0)

    with pytest.raises(ConflictError) as failure:
        await store.save(agent("a1", name="later"), expected=0)

    assert (failure.value.expected, failure.value.actual) == (0, 1)
    assert (await store.get("agent", "a1")).version == 1


async def test_expecting_a_version_loses_against_a_newer_one(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"))
    await store.save(agent("a1", name="second"), expected=1)

    with pytest.raises(ConflictError) as failure:
        await store.save(agent("a1", name="lost"), expected=1)
    with pytest.raises(ConflictError):
        await store.delete("agent", "a1", expected=1)

    assert (failure.value.expected, failure.value.actual) == (1, 2)
    assert "second" in (await store.get("agent", "a1")).data


async def test_expecting_a_version_of_nothing_conflicts(store: ResourceStore, agent: Make) -> None:
    with pytest.raises(ConflictError) as failure:
        await store.save(agent("a1"), expected=3)

    assert (failure.value.expected, failure.value.actual) == (3, 0)


async def test_of_many_updates_to_one_version_one_wins(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"))

    outcomes = await asyncio.gather(
        *(store.save(agent("a1", name=f"n{i}"), expected=1) for i in range(20)), return_exceptions=True
    )

    assert sum(isinstance(outcome, Record) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 19
    assert (await store.get("agent", "a1")).version == 2


async def test_an_id_belongs_to_one_kind(store: ResourceStore, agent: Make, run: Make) -> None:
    await store.save(agent("x1"))

    with pytest.raises(IdTakenError) as failure:
        await store.save(run("x1"))

    assert failure.value.holder == "agent"


async def test_a_slug_names_one_record_of_its_kind_and_organization(
    store: ResourceStore, agent: Make, run: Make
) -> None:
    first = await store.save(agent("a1", slug="ann", org_id="one"))
    second = await store.save(agent("a2", slug="ann", org_id="two"))
    await store.save(run("r1", slug="ann", org_id="one"))

    with pytest.raises(SlugTakenError) as failure:
        await store.save(agent("a3", slug="ann", org_id="one"))

    assert (failure.value.id, failure.value.slug, failure.value.org_id) == ("a1", "ann", "one")
    assert await store.find("agent", org_id="one", slug="ann") == first
    assert await store.find("agent", org_id="two", slug="ann") == second
    assert await store.find("agent", org_id=None, slug="ann") == second
    assert await store.find("agent", org_id="three", slug="ann") is None
    assert await store.find("agent", org_id=None, slug="bob") is None


async def test_a_record_may_change_its_slug_but_not_to_a_taken_one(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", slug="ann"))
    await store.save(agent("a2", slug="bob"))

    with pytest.raises(SlugTakenError):
        await store.save(agent("a2", slug="ann"))
    await store.save(agent("a1", slug="cid"))
    renamed = await store.save(agent("a2", slug="ann"))

    assert await store.find("agent", org_id="", slug="ann") == renamed
    assert await store.find("agent", org_id="", slug="bob") is None


async def test_a_freed_slug_can_be_taken(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", slug="ann"))
    await store.delete("agent", "a1")

    saved = await store.save(agent("a2", slug="ann"))

    assert await store.find("agent", org_id="", slug="ann") == saved


async def test_an_empty_slug_is_no_slug(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", slug=""))
    await store.save(agent("a2", slug=""))

    assert await store.find("agent", org_id="", slug="") is None
    assert await store.find("agent", org_id=None, slug="") is None


async def test_where_slugs_do_not_name_the_newest_is_found(store: ResourceStore, run: Make) -> None:
    await store.save(run("r2", slug="daily", org_id="one"))
    newest_of_one = await store.save(run("r1", slug="daily", org_id="one"))
    newest = await store.save(run("r0", slug="daily", org_id="two"))
    await store.save(run("r2", slug="daily", org_id="one"))

    assert await store.find("run", org_id="one", slug="daily") == newest_of_one
    assert await store.find("run", org_id=None, slug="daily") == newest


async def test_a_deleted_record_is_gone_and_begins_anew(store: ResourceStore, agent: Make) -> None:
    saved = await store.save(agent("a1", labels={"a": "b"}))
    await store.save(agent("a1", labels={"a": "c"}))

    deleted = await store.delete("agent", "a1", expected=2)

    assert deleted.labels == {"a": "c"}
    assert (await store.list(Query(kind="agent", labels={"a": "c"}))).records == ()
    with pytest.raises(NotFoundError):
        await store.delete("agent", "a1")
    assert (await store.save(agent("a1"))).version == saved.version
    assert (await store.list(Query(kind="agent", labels={"a": "c"}))).records == ()


async def test_deleting_a_kind_leaves_the_others(store: ResourceStore, agent: Make, run: Make) -> None:
    for i in range(5):
        await store.save(agent(f"a{i}", labels={"a": "b"}))
    await store.save(run("r1", labels={"a": "b"}))

    assert await store.delete_kind("agent") == 5
    assert await store.delete_kind("agent") == 0
    assert (await store.list(Query(kind="agent", labels={"a": "b"}))).records == ()
    assert len((await store.list(Query(kind="run", labels={"a": "b"}))).records) == 1


async def test_changing_what_was_given_or_returned_changes_nothing_stored(store: ResourceStore, agent: Make) -> None:
    labels = {"a": "b"}
    saved = await store.save(agent("a1", labels=labels))
    labels["a"] = "changed"
    assert isinstance(saved.labels, dict)
    saved.labels["a"] = "changed"
    (await store.get("agent", "a1")).labels["a"] = "changed"  # type: ignore[index]

    assert (await store.get("agent", "a1")).labels == {"a": "b"}


async def test_fifty_concurrent_writers_are_all_stored(store: ResourceStore, run: Make) -> None:
    async def write(writer: int) -> None:
        for i in range(20):
            await store.save(run(f"r{writer}-{i}", agent_id=f"a{writer}"), expected=0)
            await store.get("run", f"r{writer}-{i}")

    await asyncio.wait_for(asyncio.gather(*(write(writer) for writer in range(50))), 30)

    page = await store.list(Query(kind="run", limit=2000, count=True))
    assert page.total == 1000
    assert len({record.id for record in page.records}) == 1000


async def test_a_closed_store_refuses_everything(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"))
    await asyncio.gather(store.close(), store.close())
    await store.close()

    calls = (
        store.get("agent", "a1"),
        store.find("agent", org_id=None, slug="a1"),
        store.list(Query(kind="agent")),
        store.save(agent("a2")),
        store.delete("agent", "a1"),
        store.delete_kind("agent"),
        store.history("agent", "a1"),
        store.archived("agent", "a1", version=1),
        store.last_sequence(),
        store.compact(keep=1),
        store.transact(lambda tx: tx.get("agent", "a1")),
    )
    for call in calls:
        with pytest.raises(ClosedError):
            await call
    with pytest.raises(ClosedError):
        store.watch()


async def test_what_was_begun_before_close_is_finished(store: ResourceStore, agent: Make) -> None:
    writes = [asyncio.create_task(store.save(agent(f"a{i}"))) for i in range(20)]
    await asyncio.sleep(0)

    await asyncio.wait_for(store.close(), 10)

    assert [record.version for record in await asyncio.gather(*writes)] == [1] * 20
