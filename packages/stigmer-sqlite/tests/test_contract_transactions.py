"""The contract, over every store: work that commits together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stigmer_sqlite import (
    ClosedError,
    ConflictError,
    InvalidRecordError,
    NotFoundError,
    Query,
    Reader,
    Record,
    ResourceStore,
    SlugTakenError,
    Transaction,
)

Make = Callable[..., Record]


async def count(store: ResourceStore, kind: str = "agent") -> int | None:
    return (await store.list(Query(kind=kind, count=True))).total


async def test_work_sees_its_own_writes_and_its_result_is_returned(
    store: ResourceStore, agent: Make, run: Make
) -> None:
    def work(tx: Transaction) -> str:
        tx.save(agent("a1", slug="ann", phase="ready", labels={"l": "x"}))
        tx.save(run("r1"))
        assert tx.get("agent", "a1").version == 1
        assert tx.find("agent", org_id="", slug="ann") is not None
        assert len(tx.list(Query(kind="agent", where={"phase": "ready"}, labels={"l": "x"})).records) == 1
        tx.delete("run", "r1")
        with pytest.raises(NotFoundError):
            tx.get("run", "r1")
        return "done"

    assert await store.transact(work) == "done"
    assert await count(store) == 1
    assert await count(store, "run") == 0


async def test_work_that_raises_leaves_nothing(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", slug="ann", labels={"l": "x"}))
    before = await store.last_sequence()

    def work(tx: Transaction) -> None:
        tx.save(agent("a1", slug="changed", labels={"l": "y"}))
        tx.save(agent("a2"))
        tx.delete("agent", "a1")
        tx.save(agent("a1", slug="anew"))
        tx.delete_kind("agent")
        raise LookupError("changed my mind")

    with pytest.raises(LookupError, match="changed my mind"):
        await store.transact(work)

    page = await store.list(Query(kind="agent"))
    assert [(r.id, r.slug, r.version, r.labels) for r in page.records] == [("a1", "ann", 1, {"l": "x"})]
    assert (await store.list(Query(kind="agent", labels={"l": "x"}))).records == page.records
    assert await store.last_sequence() == before


async def test_the_failure_of_one_work_does_not_touch_others_begun_with_it(store: ResourceStore, agent: Make) -> None:
    def work(i: int) -> Callable[[Transaction], int]:
        def save_or_raise(tx: Transaction) -> int:
            tx.save(agent(f"a{i}"))
            if i % 3 == 0:
                raise ValueError(i)
            return i

        return save_or_raise

    outcomes = await asyncio.gather(*(store.transact(work(i)) for i in range(30)), return_exceptions=True)

    for i, outcome in enumerate(outcomes):
        assert (isinstance(outcome, ValueError) and outcome.args == (i,)) if i % 3 == 0 else outcome == i
    assert await count(store) == 20
    assert await store.last_sequence() == 20


async def test_work_may_handle_a_refused_write_and_go_on(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", slug="ann"))

    def work(tx: Transaction) -> list[str]:
        refused: list[str] = []
        for record, expected in (
            (agent("a2", slug="ann", labels={"l": "x"}), None),
            (agent("a1"), 7),
            (Record(kind="agent", id="a3", data="{"), None),
            (Record(kind="agent", id="a1", slug="ann", data="{"), None),
        ):
            try:
                tx.save(record, expected=expected)
            except (SlugTakenError, ConflictError, InvalidRecordError) as error:
                refused.append(type(error).__name__)
        tx.save(agent("a4"))
        return refused

    refused = await store.transact(work)

    assert refused == ["SlugTakenError", "ConflictError", "InvalidRecordError", "InvalidRecordError"]
    assert [record.id for record in (await store.list(Query(kind="agent"))).records] == ["a4", "a1"]
    assert (await store.list(Query(kind="agent", labels={"l": "x"}))).records == ()
    assert await store.last_sequence() == 2


async def test_increments_are_never_lost(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", name="0"))

    def increment(tx: Transaction) -> None:
        record = tx.get("agent", "a1")
        tx.save(agent("a1", name=str(int(record.data.split('"name": "')[1].split('"')[0]) + 1)))

    await asyncio.gather(*(store.transact(increment) for _ in range(200)))

    record = await store.get("agent", "a1")
    assert '"name": "200"' in record.data
    assert record.version == 201


async def test_readers_see_all_of_a_commit_or_nothing(store: ResourceStore, run: Make) -> None:
    def grow(tx: Transaction) -> None:
        size = len(tx.list(Query(kind="run", limit=1000)).records)
        tx.save(run(f"r{size}"))
        tx.save(run(f"r{size + 1}"))

    async def look() -> None:
        for _ in range(100):
            page = await store.list(Query(kind="run", limit=1000, count=True))
            assert page.total == len(page.records)
            assert len(page.records) % 2 == 0
            await asyncio.sleep(0)

    await asyncio.gather(look(), look(), *(store.transact(grow) for _ in range(50)))

    assert await count(store, "run") == 100


async def test_a_transaction_is_of_no_use_after_its_work(store: ResourceStore, agent: Make) -> None:
    kept = await store.transact(lambda tx: tx)
    verbs: tuple[Callable[[], Any], ...] = (
        lambda: kept.get("agent", "a1"),
        lambda: kept.find("agent", org_id=None, slug="x"),
        lambda: kept.list(Query(kind="agent")),
        lambda: kept.save(agent("a1")),
        lambda: kept.delete("agent", "a1"),
        lambda: kept.delete_kind("agent"),
    )
    for verb in verbs:
        with pytest.raises(ClosedError):
            verb()


async def test_a_coroutine_is_no_work(store: ResourceStore, agent: Make) -> None:
    async def work(tx: Transaction) -> None:
        tx.save(agent("a1"))

    with pytest.raises(TypeError, match="coroutine"):
        await store.transact(work)


@pytest.mark.parametrize("raised", [StopIteration(1), GeneratorExit(), asyncio.CancelledError()])
async def test_work_may_raise_anything(store: ResourceStore, agent: Make, raised: BaseException) -> None:
    def work(tx: Transaction) -> None:
        tx.save(agent("a1"))
        raise raised

    with pytest.raises(BaseException):  # noqa: B017, PT011 # which one is the point of the parameters
        await asyncio.wait_for(asyncio.ensure_future(store.transact(work)), 10)

    assert await count(store) == 0
    assert (await store.save(agent("a2"))).version == 1


async def test_long_work_is_whole_and_does_not_keep_others_from_their_turn(store: ResourceStore, run: Make) -> None:
    def long(tx: Transaction) -> int:
        for i in range(2000):
            tx.save(run(f"long{i}", agent_id="long"))
        return len(tx.list(Query(kind="run", where={"agent_id": "long"}, limit=5000)).records)

    outcomes = await asyncio.wait_for(
        asyncio.gather(
            store.save(run("before")),
            store.transact(long),
            store.save(run("after")),
            store.save(run("large", agent_id="x" * 500_000)),
            store.transact(lambda tx: tx.delete_kind("agent")),
        ),
        30,
    )

    assert outcomes[1] == 2000
    assert await count(store, "run") == 2003
    assert await store.last_sequence() == 2003


async def test_long_work_that_raises_leaves_nothing(store: ResourceStore, run: Make) -> None:
    def work(tx: Transaction) -> None:
        for i in range(2000):
            tx.save(run(f"r{i}"))
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(work)

    assert await count(store, "run") == 0
    assert await store.last_sequence() == 0


async def test_cancelling_a_writer_leaves_the_others_and_the_store_whole(store: ResourceStore, run: Make) -> None:
    tasks = [asyncio.create_task(store.save(run(f"r{i}"))) for i in range(100)]
    for i, task in enumerate(tasks):
        if i % 5 == 0:
            await asyncio.sleep(0)
        if i % 2:
            task.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    stored = {record.id for record in (await store.list(Query(kind="run", limit=200))).records}
    acknowledged = {outcome.id for outcome in outcomes if isinstance(outcome, Record)}
    assert acknowledged <= stored
    assert {f"r{i}" for i in range(0, 100, 2)} <= acknowledged
    assert await store.last_sequence() == len(stored)


async def test_closing_while_cancelled_writes_wait_ends(store: ResourceStore, run: Make) -> None:
    tasks = [asyncio.create_task(store.save(run(f"r{i}"))) for i in range(10)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()

    await asyncio.wait_for(store.close(), 10)

    assert all(task.done() for task in tasks)


async def test_what_is_read_together_is_of_one_state(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", slug="one"))

    def look(reader: Reader) -> list[str]:
        found = reader.find("agent", org_id=None, slug="one")
        assert found is not None
        return [found.id, *(record.id for record in reader.list(Query(kind="agent")).records)]

    assert await store.read(look) == ["a1", "a1"]
    with pytest.raises(NotFoundError):
        await store.read(lambda reader: reader.get("agent", "ghost"))
    with pytest.raises(ZeroDivisionError):
        await store.read(lambda reader: 1 // 0)
    assert await store.read(look) == ["a1", "a1"]
