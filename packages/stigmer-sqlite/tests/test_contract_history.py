"""The contract, over every store: documents as they once were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stigmer_sqlite import (
    Archive,
    InvalidQueryError,
    InvalidRecordError,
    NotFoundError,
    Record,
    ResourceStore,
    Transaction,
)

Make = Callable[..., Record]


async def test_only_what_is_archived_enters_the_history(store: ResourceStore, agent: Make) -> None:
    first = await store.save(agent("a1", name="1", wire=b"1"), archive=Archive(event="created", tag="v1", hash="h1"))
    await store.save(agent("a1", name="2"))
    third = await store.save(agent("a1", name="3"), archive=Archive())

    newest, oldest = await store.history("agent", "a1")

    assert (newest.version, newest.event, newest.tag, newest.hash) == (3, "updated", "", "")
    assert (newest.data, newest.archived_at) == (third.data, third.updated_at)
    assert (oldest.kind, oldest.id, oldest.version) == ("agent", "a1", 1)
    assert (oldest.event, oldest.tag, oldest.hash) == ("created", "v1", "h1")
    assert (oldest.data, oldest.wire, oldest.archived_at) == (first.data, b"1", first.updated_at)


async def test_a_resource_without_history_has_an_empty_one(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"))

    assert await store.history("agent", "a1") == ()
    assert await store.history("agent", "ghost") == ()
    assert await store.history("agent", "\ud800") == ()


async def test_entries_are_found_by_version_tag_or_hash(store: ResourceStore, agent: Make) -> None:
    for i, (tag, hash) in enumerate([("stable", "h1"), ("", "h2"), ("stable", "h1"), ("next", "h1")], start=1):
        await store.save(agent("a1", name=str(i)), archive=Archive(tag=tag, hash=hash))
    await store.save(agent("a2"), archive=Archive(tag="stable", hash="h2"))

    assert (await store.archived("agent", "a1", version=2)).hash == "h2"
    assert (await store.archived("agent", "a1", tag="stable")).version == 3
    assert (await store.archived("agent", "a1", hash="h1")).version == 4
    assert (await store.archived("agent", "a1", tag="stable", hash="h1")).version == 3
    assert (await store.archived("agent", "a1", version=1, tag="stable")).version == 1


async def test_entries_are_numbered_whatever_was_written_in_between(store: ResourceStore, agent: Make) -> None:
    for i in range(1, 4):
        await store.save(agent("a1", name=str(i)), archive=Archive(event=f"e{i}", actor=f"by {i}", message=f"why {i}"))
        await store.save(agent("a1", name="not kept"))
    await store.save(agent("a2"), archive=Archive())

    entries = await store.history("agent", "a1")

    assert [(entry.number, entry.version) for entry in entries] == [(3, 5), (2, 3), (1, 1)]
    assert [(entry.actor, entry.message) for entry in entries] == [(f"by {i}", f"why {i}") for i in (3, 2, 1)]
    assert (await store.archived("agent", "a1", number=2)).event == "e2"
    assert (await store.archived("agent", "a2", number=1)).version == 1
    with pytest.raises(NotFoundError):
        await store.archived("agent", "a1", number=4)
    with pytest.raises(NotFoundError):
        await store.archived("agent", "a1", number=2, version=1)


async def test_numbers_begin_anew_with_a_new_resource(store: ResourceStore, agent: Make) -> None:
    for _ in range(2):
        await store.save(agent("a1"), archive=Archive())
    await store.delete("agent", "a1")
    await store.save(agent("a1"), archive=Archive())

    assert [entry.number for entry in await store.history("agent", "a1")] == [1]


async def test_a_history_is_read_in_parts_and_without_documents(store: ResourceStore, agent: Make) -> None:
    for i in range(5):
        await store.save(agent("a1", name=str(i), wire=b"x"), archive=Archive(tag=f"t{i}"))

    async def numbers(**part: Any) -> list[int]:
        return [entry.number for entry in await store.history("agent", "a1", **part)]

    assert await numbers(limit=2) == [5, 4]
    assert await numbers(before=4, limit=2) == [3, 2]
    assert await numbers(before=2) == [1]
    assert await numbers(before=1) == []
    assert await numbers(limit=0) == []
    assert await numbers(before=2**70, limit=1) == [5]
    (light,) = await store.history("agent", "a1", limit=1, documents=False)
    (whole,) = await store.history("agent", "a1", limit=1)
    assert (light.data, light.wire) == ("", None)
    assert light == replace(whole, data="", wire=None)


async def test_an_entry_that_is_not_there_is_not_found(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"), archive=Archive(tag="t", hash="h"))

    for wanted in ({"version": 2}, {"tag": "x"}, {"hash": "x"}, {"tag": "t", "hash": "x"}, {"tag": "\ud800"}):
        with pytest.raises(NotFoundError):
            await store.archived("agent", "a1", **wanted)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        await store.archived("run", "a1", version=1)
    with pytest.raises(NotFoundError):
        await store.archived("agent", "a1", version=2**70)


async def test_saying_nothing_of_the_entry_is_refused(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"), archive=Archive())

    with pytest.raises(InvalidQueryError):
        await store.archived("agent", "a1")


async def test_deleting_a_resource_deletes_its_history_alone(store: ResourceStore, agent: Make, run: Make) -> None:
    for id in ("a1", "a2", "a3"):
        await store.save(agent(id), archive=Archive())
    await store.save(run("r1"), archive=Archive())
    await store.delete("agent", "a1")

    assert await store.history("agent", "a1") == ()
    assert len(await store.history("agent", "a2")) == 1

    await store.delete_kind("agent")

    assert await store.history("agent", "a2") == ()
    assert len(await store.history("run", "r1")) == 1


async def test_a_new_resource_does_not_inherit_a_history(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", name="old"), archive=Archive(tag="t"))
    await store.delete("agent", "a1")
    await store.save(agent("a1", name="new"), archive=Archive())

    assert [entry.version for entry in await store.history("agent", "a1")] == [1]
    with pytest.raises(NotFoundError):
        await store.archived("agent", "a1", tag="t")


async def test_history_commits_with_its_transaction(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1"), archive=Archive(tag="kept"))

    def work(tx: Transaction) -> None:
        tx.save(agent("a1", name="lost"), archive=Archive(tag="lost"))
        tx.delete("agent", "a1")
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(work)

    assert [entry.tag for entry in await store.history("agent", "a1")] == ["kept"]


@pytest.mark.parametrize(
    "archive",
    [
        Archive(event="\0"),
        Archive(tag="\ud800"),
        Archive(hash="a\0"),
        Archive(actor="\0"),
        Archive(message="\ud800"),
    ],
)
async def test_text_that_cannot_be_archived_exactly_is_refused(
    store: ResourceStore, agent: Make, archive: Archive
) -> None:
    with pytest.raises(InvalidRecordError, match="archive"):
        await store.save(agent("a1"), archive=archive)

    with pytest.raises(NotFoundError):
        await store.get("agent", "a1")


async def test_the_hashes_are_those_of_documents_that_are_kept(store: ResourceStore, agent: Make, run: Make) -> None:
    def hashes(tx: Transaction) -> frozenset[str]:
        return tx.archived_hashes()

    assert await store.transact(hashes) == frozenset()
    for id, hash in [("a1", "h1"), ("a1", "h2"), ("a2", "h2"), ("a3", "")]:
        await store.save(agent(id), archive=Archive(hash=hash))
    await store.save(run("r1"), archive=Archive(hash="h3"))

    assert await store.transact(hashes) == {"h1", "h2", "h3"}

    await store.delete("agent", "a1")

    assert await store.transact(hashes) == {"h2", "h3"}


async def test_a_transaction_sees_what_is_archived(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", name="1"), archive=Archive(tag="v1", hash="h1"))

    def archived(tx: Transaction) -> tuple[int, int]:
        tx.save(agent("a1", name="2"), archive=Archive(tag="v2"))
        return tx.archived("agent", "a1", hash="h1").version, tx.archived("agent", "a1", tag="v2").version

    assert await store.transact(archived) == (1, 2)
    with pytest.raises(NotFoundError):
        await store.transact(lambda tx: tx.archived("agent", "a1", tag="v3"))
