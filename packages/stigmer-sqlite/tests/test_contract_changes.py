"""The contract, over every store: the feed of committed changes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest

from stigmer_sqlite import (
    Change,
    CompactedError,
    InvalidQueryError,
    MemoryStore,
    Operation,
    Record,
    ResourceStore,
    Transaction,
)

Make = Callable[..., Record]


async def take(watch: AsyncIterator[Change], number: int) -> list[Change]:
    return [await asyncio.wait_for(anext(watch), 10) for _ in range(number)]


async def is_silent(watch: AsyncIterator[Change]) -> bool:
    waiting = asyncio.ensure_future(anext(watch))
    for _ in range(20):
        await asyncio.sleep(0)
    silent = not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return silent


async def test_a_change_says_what_was_done_to_what(store: ResourceStore, agent: Make) -> None:
    watch = store.watch()
    await store.save(agent("a1", org_id="o", slug="s"))
    await store.save(agent("a1", org_id="o", slug="t"))
    await store.delete("agent", "a1")

    assert await take(watch, 3) == [
        Change(sequence=1, operation=Operation.CREATED, kind="agent", id="a1", org_id="o", slug="s", version=1),
        Change(sequence=2, operation=Operation.UPDATED, kind="agent", id="a1", org_id="o", slug="t", version=2),
        Change(sequence=3, operation=Operation.DELETED, kind="agent", id="a1", org_id="o", slug="t", version=2),
    ]


async def test_a_change_says_which_labels_it_left_and_found(store: ResourceStore, agent: Make) -> None:
    blue, red = {"team": "blue", "é": "1"}, {"team": "red"}
    live = store.watch()
    for labels in (blue, blue, red, {}, red):
        await store.save(agent("a1", labels=labels))
    await store.delete("agent", "a1")
    await store.save(agent("a2", labels=blue))
    await store.delete_kind("agent")

    expected: list[tuple[dict[str, str], dict[str, str] | None]] = [
        (blue, None),
        (blue, None),
        (red, blue),
        ({}, red),
        (red, {}),
        (red, None),
        (blue, None),
        (blue, None),
    ]
    for watch in (live, store.watch(after=0)):
        assert [(change.labels, change.former_labels) for change in await take(watch, 8)] == expected


async def test_a_watch_tells_how_far_it_is(store: ResourceStore, agent: Make, run: Make) -> None:
    watch, late = store.watch(kinds=["agent"]), store.watch(after=0, kinds=["agent"])
    assert (watch.position, late.position) == (0, 0)
    for record in (run("r1"), agent("a1"), run("r2"), agent("a2"), run("r3")):
        await store.save(record)

    for reader in (watch, late):
        positions = [(await anext(reader)).sequence and reader.position for _ in range(2)]
        # All up to the next change that is to be told is behind it.
        assert positions == [3, 5]
    await store.save(run("r4"))
    assert await is_silent(late)
    assert (watch.position, late.position) == (6, 6)


async def test_a_closed_watch_ends_after_what_is_at_hand(store: ResourceStore, agent: Make) -> None:
    waiting, full = store.watch(), store.watch()
    reading = asyncio.ensure_future(anext(waiting, None))
    await asyncio.sleep(0)
    waiting.close()
    assert await asyncio.wait_for(reading, 10) is None

    await store.save(agent("a1"))
    full.close()
    await store.save(agent("a2"))
    assert [change.id async for change in full] == ["a1"]
    assert await anext(waiting, None) is None


async def test_a_store_has_an_identity_of_its_own(store: ResourceStore, agent: Make) -> None:
    identity = await store.identity()
    await store.save(agent("a1"))

    assert await store.identity() == identity
    assert identity != await MemoryStore(()).identity()


async def test_a_watch_is_registered_when_it_is_made(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("before"))
    watch = store.watch()
    await store.save(agent("after"))

    assert [change.id for change in await take(watch, 1)] == ["after"]
    assert await is_silent(watch)


async def test_a_watch_resumes_after_a_sequence(store: ResourceStore, agent: Make) -> None:
    for i in range(5):
        await store.save(agent(f"a{i}"))

    assert [change.sequence for change in await take(store.watch(after=0), 5)] == [1, 2, 3, 4, 5]
    watch = store.watch(after=3)
    assert [change.sequence for change in await take(watch, 2)] == [4, 5]
    await store.save(agent("a5"))
    assert [change.id for change in await take(watch, 1)] == ["a5"]
    assert await is_silent(store.watch(after=await store.last_sequence()))


@pytest.mark.parametrize("after", [-1, 1, 99])
async def test_a_sequence_that_never_was_is_refused(store: ResourceStore, after: int) -> None:
    with pytest.raises(InvalidQueryError):
        await asyncio.wait_for(anext(store.watch(after=after)), 10)


async def test_filters_pass_only_what_matches(store: ResourceStore, agent: Make, run: Make) -> None:
    watches = {
        "agents": store.watch(kinds=["agent"]),
        "a2": store.watch(id="a2"),
        "run r1": store.watch(kinds=["run", "agent"], id="r1"),
        "replayed": store.watch(after=0, kinds=["run"]),
    }
    for record in (agent("a1"), run("r1"), agent("a2"), run("r2"), agent("a2")):
        await store.save(record)

    expected = {"agents": ["a1", "a2", "a2"], "a2": ["a2", "a2"], "run r1": ["r1"], "replayed": ["r1", "r2"]}
    for name, watch in watches.items():
        assert [change.id for change in await take(watch, len(expected[name]))] == expected[name]
        assert await is_silent(watch)


async def test_sequences_rise_in_commit_order_without_gaps(store: ResourceStore, run: Make) -> None:
    watch = store.watch()

    def work(i: int) -> Callable[[Transaction], None]:
        def save_three(tx: Transaction) -> None:
            for j in range(3):
                tx.save(run(f"r{i}-{j}"))
            if i % 4 == 0:
                raise LookupError

        return save_three

    await asyncio.gather(*(store.transact(work(i)) for i in range(40)), return_exceptions=True)

    changes = await take(watch, 90)
    assert [change.sequence for change in changes] == list(range(1, 91))
    for first in range(0, 90, 3):
        assert len({change.id.split("-")[0] for change in changes[first : first + 3]}) == 1
    assert await store.last_sequence() == 90


async def test_deleting_a_kind_is_one_change_for_each_record(store: ResourceStore, agent: Make) -> None:
    for i in range(3):
        await store.save(agent(f"a{i}", org_id="o"))
    watch = store.watch()
    await store.delete_kind("agent")

    changes = await take(watch, 3)
    assert [(change.id, change.operation, change.org_id) for change in changes] == [
        (f"a{i}", Operation.DELETED, "o") for i in range(3)
    ]


async def test_a_slow_watch_misses_nothing(store: ResourceStore, run: Make) -> None:
    slow, fast = store.watch(), store.watch()
    first = asyncio.ensure_future(anext(slow))

    def save_many(start: int) -> Callable[[Transaction], object]:
        return lambda tx: [tx.save(run(f"r{start + i}")) for i in range(1000)]

    for start in range(0, 5000, 1000):
        await store.transact(save_many(start))
        assert len(await take(fast, 1000)) == 1000

    changes = [await asyncio.wait_for(first, 10), *await take(slow, 4999)]
    assert [change.sequence for change in changes] == list(range(1, 5001))
    await store.save(run("last"))
    assert (await take(slow, 1))[0].id == "last"


async def test_a_watch_catches_up_while_changes_come_in(store: ResourceStore, run: Make) -> None:
    await store.transact(lambda tx: [tx.save(run(f"r{i}")) for i in range(3000)])
    watch = store.watch(after=0)

    async def write() -> None:
        for i in range(3000, 3300):
            await store.save(run(f"r{i}"))

    writing = asyncio.create_task(write())
    changes = await take(watch, 3300)
    await writing

    assert [change.id for change in changes] == [f"r{i}" for i in range(3300)]


async def test_a_change_is_readable_when_it_is_watched(store: ResourceStore, run: Make) -> None:
    watch = store.watch()
    writing = asyncio.gather(*(store.save(run(f"r{i}")) for i in range(50)))
    for _ in range(50):
        change = (await take(watch, 1))[0]
        assert (await store.get("run", change.id)).version == change.version
    await writing


async def test_compaction_drops_the_oldest_changes_and_no_resource(store: ResourceStore, agent: Make) -> None:
    for i in range(10):
        await store.save(agent(f"a{i}"))

    assert await store.compact(keep=4) == 6
    assert await store.compact(keep=4) == 0
    assert (await store.get("agent", "a0")).version == 1
    assert [change.sequence for change in await take(store.watch(after=6), 4)] == [7, 8, 9, 10]
    with pytest.raises(CompactedError) as failure:
        await anext(store.watch(after=5))
    assert failure.value.after == 5


async def test_compaction_may_go_in_steps(store: ResourceStore, agent: Make) -> None:
    for i in range(10):
        await store.save(agent(f"a{i}"))

    assert [await store.compact(keep=2, limit=3) for _ in range(4)] == [3, 3, 2, 0]
    assert [change.sequence for change in await take(store.watch(after=8), 2)] == [9, 10]
    assert await store.compact(keep=0, limit=0) == 0
    assert await store.compact(keep=0, limit=5000) == 2
    assert await store.compact(keep=0, limit=5) == 0
    with pytest.raises(InvalidQueryError):
        await store.compact(keep=0, limit=-1)


async def test_sequences_go_on_after_everything_was_compacted(store: ResourceStore, agent: Make) -> None:
    for i in range(3):
        await store.save(agent(f"a{i}"))
    behind, current = store.watch(after=0), store.watch()

    assert await store.compact(keep=0) == 3
    with pytest.raises(CompactedError):
        await anext(behind)
    assert await store.last_sequence() == 3
    await store.save(agent("a9"))
    assert [(change.sequence, change.id) for change in await take(current, 1)] == [(4, "a9")]
    assert [change.id for change in await take(store.watch(after=3), 1)] == ["a9"]


async def test_compacting_to_a_negative_number_is_refused(store: ResourceStore) -> None:
    with pytest.raises(InvalidQueryError):
        await store.compact(keep=-1)


async def test_a_slow_watch_is_told_what_compaction_took_from_it(store: ResourceStore, run: Make) -> None:
    watch = store.watch()
    for start in range(0, 3000, 1000):
        await store.transact(lambda tx, start=start: [tx.save(run(f"r{start + i}")) for i in range(1000)])
    await store.compact(keep=10)

    got: list[int] = []

    async def read() -> None:
        async for change in watch:
            got.append(change.sequence)  # noqa: PERF401 # what was got before the error counts

    with pytest.raises(CompactedError):
        await asyncio.wait_for(read(), 10)

    assert got == list(range(1, len(got) + 1))


async def test_watches_end_when_the_store_closes(store: ResourceStore, agent: Make) -> None:
    waiting = [asyncio.ensure_future(anext(store.watch(), None)) for _ in range(3)]
    unread = store.watch()
    await store.save(agent("a1"))
    assert [(await task) is not None for task in waiting] == [True] * 3
    idle = asyncio.ensure_future(anext(store.watch(), None))
    await asyncio.sleep(0)

    await store.close()

    assert await asyncio.wait_for(idle, 10) is None
    assert [change.id async for change in unread] == ["a1"]


async def test_a_cancelled_reader_loses_nothing(store: ResourceStore, agent: Make) -> None:
    watch = store.watch()
    assert await is_silent(watch)
    await store.save(agent("a1"))

    assert [change.id for change in await take(watch, 1)] == ["a1"]


async def test_a_watch_has_one_reader_at_a_time(store: ResourceStore) -> None:
    watch = store.watch()
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="one reader"):
        await anext(watch)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_thousand_watches_come_and_go_without_a_trace(store: ResourceStore, agent: Make) -> None:
    tasks = len(asyncio.all_tasks())
    for i in range(1000):
        watch = store.watch(after=0, id=f"a{i}")
        del watch
    gc.collect()

    assert len(store._feed._watches) == 0  # type: ignore[attr-defined]
    assert len(asyncio.all_tasks()) == tasks
    await store.save(agent("a1"))
