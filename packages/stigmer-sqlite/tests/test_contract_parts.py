"""The contract, over every store: arrays that are kept apart from the rest of their document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from stigmer_sqlite import Archive, InvalidRecordError, NotFoundError, Part, Query, Record, ResourceStore, Transaction

Make = Callable[..., Record]
TASKS, NOTES = "$.status.tasks", "$.status.notes"


def part(position: int, *, path: str = TASKS, key: str = "", text: str = "first") -> Part:
    return Part(path=path, position=position, key=key, data=f'"{text}"', wire=text.encode())


def read(*parts: Part) -> tuple[Part, ...]:
    """The parts as they are read: by their encoding, or else by their text."""
    return tuple(each._replace(data="" if each.wire is not None else each.data) for each in parts)


@pytest.fixture
def split(agent: Make) -> Make:
    """Make an agent that keeps arrays apart: `split("a1", part(0), part(1))`."""

    def make(id: str, *parts: Part, **fields: object) -> Record:
        lengths: dict[str, int] = {}
        for each in parts:
            lengths[each.path] = max(lengths.get(each.path, 0), each.position + 1)
        return agent(id, **{"lengths": lengths, "parts": parts, **fields})

    return make


async def test_a_record_is_read_with_all_its_parts_in_order(store: ResourceStore, split: Make) -> None:
    parts = (part(0, path=NOTES), part(0), part(1), part(2))
    saved = await store.save(split("a1", *reversed(parts), org_id="o"))

    stored = await store.get("agent", "a1")

    assert stored == replace(saved, parts=read(*parts))
    assert stored.lengths == {NOTES: 1, TASKS: 3}
    assert await store.find("agent", org_id="o", slug="a1") == stored
    assert await store.find("agent", org_id=None, slug="a1") == stored
    await store.save(split("a2", part(0)))
    assert (await store.list(Query(kind="agent", org_id="o"))).records == (stored,)
    assert [len(record.parts) for record in (await store.list(Query(kind="agent"))).records] == [1, 4]
    assert await store.transact(lambda tx: tx.get("agent", "a1")) == stored


async def test_parts_without_an_encoding_are_read_as_text(store: ResourceStore, split: Make) -> None:
    parts = (part(0)._replace(wire=None), part(1)._replace(wire=b""))
    await store.save(split("a1", *parts))

    assert (await store.get("agent", "a1")).parts == (parts[0], parts[1]._replace(data=""))


async def test_an_encoding_is_all_that_is_passed_on(store: ResourceStore, split: Make) -> None:
    saved = await store.save(split("a1", part(0), part(1), org_id="acme", wire=b"head"))
    await store.save(Record(kind="agent", id="plain", org_id="acme", data="{}", wire=b"all of it"))
    await store.save(split("a2", part(0), part(1)._replace(wire=None)))

    found = await store.encoding("agent", "a1")
    assert found == ("acme", b"head", saved.lengths, b"".join(each.wire or b"" for each in saved.parts))
    assert await store.transact(lambda tx: tx.encoding("agent", "a1")) == found
    assert await store.encoding("agent", "plain") == ("acme", b"all of it", {}, b"")
    assert (await store.encoding("agent", "a2")).parts is None


async def test_a_head_has_the_lengths_and_none_of_the_parts(store: ResourceStore, split: Make) -> None:
    saved = await store.save(split("a1", part(0), part(1)))

    head = await store.head("agent", "a1")

    assert head == replace(saved, parts=())
    assert await store.transact(lambda tx: tx.head("agent", "a1")) == head
    with pytest.raises(NotFoundError):
        await store.head("agent", "ghost")
    with pytest.raises(NotFoundError):
        await store.encoding("agent", "ghost")


async def test_a_save_touches_only_the_parts_that_it_brings(store: ResourceStore, split: Make) -> None:
    await store.save(split("a1", part(0), part(1), part(2), part(0, path=NOTES)))
    head = await store.head("agent", "a1")

    changed = (part(1, text="second"), part(3, text="new"))
    saved = await store.save(replace(head, lengths={NOTES: 1, TASKS: 4}, parts=changed), expected=1)

    stored = await store.get("agent", "a1")
    assert (saved.version, stored.version) == (2, 2)
    assert stored.parts == read(part(0, path=NOTES), part(0), changed[0], part(2), changed[1])


async def test_arrays_become_shorter_and_go(store: ResourceStore, split: Make) -> None:
    await store.save(split("a1", part(0), part(1), part(2), part(0, path=NOTES)))

    await store.save(replace(await store.head("agent", "a1"), lengths={TASKS: 1}))
    assert (await store.get("agent", "a1")).parts == read(part(0))
    await store.save(replace(await store.head("agent", "a1"), lengths={}))
    assert (await store.get("agent", "a1")).parts == ()
    await store.save(split("a1", part(0, text="again")))
    assert (await store.get("agent", "a1")).parts == read(part(0, text="again"))


async def test_parts_are_found_by_their_keys(store: ResourceStore, split: Make, run: Make) -> None:
    one, two, same = part(0, key="one"), part(1, key="two"), part(2, key="one")
    await store.save(split("a1", one, two, same, part(3), part(0, path=NOTES, key="one")))
    await store.save(run("r1"))

    def found(tx: Transaction) -> list[tuple[Part, ...]]:
        return [
            tx.parts("agent", "a1", path=TASKS, keys=["two", "one", "two", "ghost"]),
            tx.parts("agent", "a1", path=NOTES, keys=["one"]),
            tx.parts("agent", "a1", path=TASKS, keys=["", "\ud800", "x\0"]),
            tx.parts("agent", "a1", path="$.none", keys=["one"]),
            tx.parts("agent", "ghost", path=TASKS, keys=["one"]),
            tx.parts("run", "a1", path=TASKS, keys=["one"]),
            tx.parts("agent", "a1", path=TASKS, keys=[]),
        ]

    assert await store.transact(found) == [
        read(one, two, same),
        read(part(0, path=NOTES, key="one")),
        (),
        (),
        (),
        (),
        (),
    ]


async def test_many_keys_are_looked_up_at_once(store: ResourceStore, split: Make) -> None:
    parts = tuple(part(i, key=f"k{i}") for i in range(1500))
    await store.save(split("a1", *parts))

    wanted = [f"k{i}" for i in range(0, 1500, 2)]
    assert await store.transact(lambda tx: tx.parts("agent", "a1", path=TASKS, keys=wanted)) == read(*parts[::2])


async def test_what_was_undone_leaves_no_parts(store: ResourceStore, split: Make) -> None:
    await store.save(split("a1", part(0), part(1)))

    def fail(tx: Transaction) -> None:
        head = tx.head("agent", "a1")
        tx.save(replace(head, lengths={TASKS: 3}, parts=(part(0, text="x"), part(2))))
        tx.save(split("a2", part(0)))
        tx.delete("agent", "a1")
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(fail)

    assert (await store.get("agent", "a1")).parts == read(part(0), part(1))
    await store.save(split("a2"))
    assert (await store.get("agent", "a2")).parts == ()


async def test_parts_go_with_their_record(store: ResourceStore, split: Make) -> None:
    await store.save(split("a1", part(0), part(1)))
    assert (await store.delete("agent", "a1")).parts == read(part(0), part(1))
    await store.save(split("a1", part(0, text="anew")))
    assert (await store.get("agent", "a1")).parts == read(part(0, text="anew"))

    assert await store.delete_kind("agent") == 1
    await store.save(split("a1"))
    assert (await store.get("agent", "a1")).parts == ()


async def test_a_record_with_parts_is_archived_as_a_whole(store: ResourceStore, split: Make) -> None:
    with pytest.raises(InvalidRecordError, match="whole document"):
        await store.save(split("a1", part(0)), archive=Archive())

    archive = Archive(tag="t", data='{"whole": true}', wire=b"whole")
    await store.save(split("a1", part(0)), archive=archive)

    entry = await store.archived("agent", "a1", tag="t")
    assert (entry.data, entry.wire) == ('{"whole": true}', b"whole")


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ({TASKS: 2}, ()),
        ({TASKS: 3}, (part(2),)),
        ({TASKS: -1}, ()),
        ({TASKS: 1}, (part(1),)),
        ({TASKS: 1}, (part(-1),)),
        ({}, (part(0),)),
        ({TASKS: 1}, (part(0, path=NOTES),)),
        ({"tasks": 1}, (part(0, path="tasks"),)),
        ({"$.status[0]": 1}, (part(0, path="$.status[0]"),)),
        ({TASKS: 1}, (Part(path=TASKS, position=0, key="", data="{"),)),
        ({TASKS: 1}, (Part(path=TASKS, position=0, key="", data='"\ud800"'),)),
        ({TASKS: 1}, (part(0, key="a\0b"),)),
    ],
)
async def test_parts_that_do_not_fit_are_refused(
    store: ResourceStore, split: Make, lengths: dict[str, int], parts: tuple[Part, ...]
) -> None:
    before = await store.save(split("a1", part(0)))
    for id in ("a1", "a2"):
        with pytest.raises(InvalidRecordError):
            await store.save(split(id, lengths=lengths, parts=parts))

    assert (await store.get("agent", "a1")) == replace(before, parts=read(part(0)))
    with pytest.raises(NotFoundError):
        await store.get("agent", "a2")


async def test_a_reader_never_sees_parts_of_two_versions(store: ResourceStore, split: Make) -> None:
    count = 300

    def version(text: str) -> Record:
        return split("a1", *(part(i, text=text) for i in range(count)))

    async def write() -> None:
        for i in range(20):
            await store.save(version(f"v{i}"))

    await store.save(version("v"))
    writing = asyncio.create_task(write())
    while not writing.done():
        assert len({each.wire for each in (await store.get("agent", "a1")).parts}) == 1
        found = await store.find("agent", org_id="", slug="a1")
        assert found is not None
        assert len({each.wire for each in found.parts}) == 1
        await asyncio.sleep(0)
    await writing
