"""The contract, over every store: lists, their filters and their pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from stigmer_sqlite import InvalidCursorError, InvalidQueryError, LabelTerm, Query, Record, ResourceStore

Make = Callable[..., Record]


async def ids(store: ResourceStore, query: Query) -> list[str]:
    return [record.id for record in (await store.list(query)).records]


async def test_an_empty_kind_lists_nothing(store: ResourceStore) -> None:
    page = await store.list(Query(kind="agent", count=True))

    assert (page.records, page.next_cursor, page.total) == ((), "", 0)


async def test_lists_go_by_creation_whatever_was_updated(store: ResourceStore, agent: Make) -> None:
    for id in ("b", "c", "a"):
        await store.save(agent(id))
    await store.save(agent("b", name="updated"))

    assert await ids(store, Query(kind="agent")) == ["a", "c", "b"]
    assert await ids(store, Query(kind="agent", newest_first=False)) == ["b", "c", "a"]


async def test_a_record_that_was_deleted_and_created_again_is_new(store: ResourceStore, agent: Make) -> None:
    for id in ("a", "b"):
        await store.save(agent(id))
    await store.delete("agent", "a")
    await store.save(agent("a"))

    assert await ids(store, Query(kind="agent")) == ["a", "b"]


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 10, 11])
async def test_pages_follow_each_other_without_gap_or_repetition(
    store: ResourceStore, agent: Make, limit: int, newest_first: bool
) -> None:
    for i in range(10):
        await store.save(agent(f"a{i}"))
    query = Query(kind="agent", limit=limit, newest_first=newest_first)
    seen: list[str] = []
    for _ in range(20):
        page = await store.list(query)
        seen += [record.id for record in page.records]
        if not page.next_cursor:
            break
        assert len(page.records) == limit
        query = replace(query, cursor=page.next_cursor)

    assert seen == [f"a{i}" for i in (range(9, -1, -1) if newest_first else range(10))]


async def test_pages_stay_in_place_while_records_come_and_go(store: ResourceStore, agent: Make) -> None:
    for i in range(6):
        await store.save(agent(f"a{i}"))
    first = await store.list(Query(kind="agent", limit=2))
    await store.save(agent("new"))
    await store.delete("agent", "a4")
    await store.delete("agent", "a3")
    await store.save(agent("a2", name="updated"))

    second = await store.list(Query(kind="agent", limit=2, cursor=first.next_cursor))

    assert [record.id for record in first.records] == ["a5", "a4"]
    assert [record.id for record in second.records] == ["a2", "a1"]


async def test_a_cursor_may_be_used_with_another_limit(store: ResourceStore, agent: Make) -> None:
    for i in range(5):
        await store.save(agent(f"a{i}"))
    page = await store.list(Query(kind="agent", limit=1))

    assert await ids(store, Query(kind="agent", limit=3, cursor=page.next_cursor, count=True)) == ["a3", "a2", "a1"]


async def test_a_foreign_or_broken_cursor_is_refused(store: ResourceStore, agent: Make) -> None:
    for i in range(3):
        await store.save(agent(f"a{i}"))
    cursor = (await store.list(Query(kind="agent", limit=1))).next_cursor
    flipped = cursor[:5] + ("A" if cursor[5] != "A" else "B") + cursor[6:]

    queries = (
        Query(kind="run", cursor=cursor),
        Query(kind="agent", org_id="x", cursor=cursor),
        Query(kind="agent", labels={"a": "b"}, cursor=cursor),
        Query(kind="agent", selector=[LabelTerm(key="a")], cursor=cursor),
        Query(kind="agent", created_after=1, cursor=cursor),
        Query(kind="agent", where={"phase": "x"}, cursor=cursor),
        Query(kind="agent", text="x", cursor=cursor),
        Query(kind="agent", slug="x", cursor=cursor),
        Query(kind="agent", newest_first=False, cursor=cursor),
        *(Query(kind="agent", cursor=bad) for bad in (flipped, cursor[:-1], cursor + "AAAA", "x", "é", "=", "%%%%")),
    )
    for query in queries:
        with pytest.raises(InvalidCursorError):
            await store.list(query)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_page_may_begin_further_on(store: ResourceStore, agent: Make, newest_first: bool) -> None:
    for i in range(7):
        await store.save(agent(f"a{i}"))
    expected = [f"a{i}" for i in range(7)]
    if newest_first:
        expected.reverse()
    query = Query(kind="agent", limit=2, newest_first=newest_first)

    page = await store.list(replace(query, offset=3, count=True))
    assert [record.id for record in page.records] == expected[3:5]
    assert page.total == 7
    assert await ids(store, replace(query, cursor=page.next_cursor)) == expected[5:7]
    assert await ids(store, replace(query, cursor=page.next_cursor, offset=1)) == expected[6:]
    assert await ids(store, replace(query, offset=7)) == []
    assert await ids(store, replace(query, offset=2**62)) == []
    for i in range(4):
        await store.save(agent(f"p{i}", phase="xy"[i % 2]))
    assert await ids(store, Query(kind="agent", where={"phase": ["x", "y"]}, offset=1, limit=2)) == ["p2", "p1"]


@pytest.mark.parametrize("offset", [-1, 2**63])
async def test_an_offset_out_of_range_is_refused(store: ResourceStore, offset: int) -> None:
    with pytest.raises(InvalidQueryError, match="offset"):
        await store.list(Query(kind="agent", offset=offset))


async def test_a_slug_is_found_in_every_organization(store: ResourceStore, agent: Make) -> None:
    for id, org, slug in (("a", "x", "one"), ("b", "y", "one"), ("c", "x", "two"), ("d", "z", "")):
        await store.save(agent(id, org_id=org, slug=slug))

    assert await ids(store, Query(kind="agent", slug="one")) == ["b", "a"]
    assert await ids(store, Query(kind="agent", slug="one", org_id="x")) == ["a"]
    assert await ids(store, Query(kind="agent", slug="three")) == []
    assert await ids(store, Query(kind="agent")) == ["d", "c", "b", "a"]


@pytest.mark.parametrize("limit", [0, -1, 10_001])
async def test_a_limit_out_of_range_is_refused(store: ResourceStore, limit: int) -> None:
    with pytest.raises(InvalidQueryError, match="limit"):
        await store.list(Query(kind="agent", limit=limit))


async def test_filters_by_organization_and_project_hold_together(store: ResourceStore, agent: Make) -> None:
    for i, (org, project) in enumerate([("o1", "p1"), ("o1", "p2"), ("o2", "p1"), ("", "")]):
        await store.save(agent(f"a{i}", org_id=org, project_id=project))

    assert await ids(store, Query(kind="agent", org_id="o1")) == ["a1", "a0"]
    assert await ids(store, Query(kind="agent", project_id="p1")) == ["a2", "a0"]
    assert await ids(store, Query(kind="agent", org_id="o1", project_id="p1")) == ["a0"]
    assert await ids(store, Query(kind="agent", org_id="")) == ["a3"]
    assert await ids(store, Query(kind="agent", project_id="")) == ["a3"]
    assert await ids(store, Query(kind="agent", org_id="o3")) == []


async def test_records_of_several_organizations_are_one_list(store: ResourceStore, agent: Make) -> None:
    for i, org in enumerate(["a", "", "b", "a", "", "c", "a"]):
        await store.save(agent(f"a{i}", org_id=org, labels={"odd": str(i % 2)}))

    assert await ids(store, Query(kind="agent", org_id=("a", ""))) == ["a6", "a4", "a3", "a1", "a0"]
    assert await ids(store, Query(kind="agent", org_id=("a", "", "a"), newest_first=False)) == [
        *("a0", "a1", "a3", "a4", "a6")
    ]
    assert await ids(store, Query(kind="agent", org_id=("c",))) == ["a5"]
    assert await ids(store, Query(kind="agent", org_id=())) == []
    assert await ids(store, Query(kind="agent", org_id=("a", ""), labels={"odd": "1"})) == ["a3", "a1"]
    first = await store.list(Query(kind="agent", org_id=("a", ""), limit=2, count=True))
    assert ([record.id for record in first.records], first.total) == (["a6", "a4"], 5)
    rest = await store.list(Query(kind="agent", org_id=("a", ""), cursor=first.next_cursor))
    assert [record.id for record in rest.records] == ["a3", "a1", "a0"]
    with pytest.raises(InvalidQueryError):
        await store.list(Query(kind="agent", org_id=("a", "b"), cursor=first.next_cursor))


async def test_every_label_asked_for_must_match(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", labels={"team": "blue", "tier": "1"}))
    await store.save(agent("a2", labels={"team": "blue"}))
    await store.save(agent("a3", labels={"team": "red", "tier": "1"}))

    assert await ids(store, Query(kind="agent", labels={"team": "blue"})) == ["a2", "a1"]
    assert await ids(store, Query(kind="agent", labels={"team": "blue", "tier": "1"})) == ["a1"]
    assert await ids(store, Query(kind="agent", labels={"blue": "team"})) == []


SELECTED: list[tuple[list[LabelTerm], str]] = [
    ([], "abcdef"),
    ([LabelTerm(key="team")], "abce"),
    ([LabelTerm(key="team", negated=True)], "df"),
    ([LabelTerm(key="team", values=["blue"])], "ab"),
    ([LabelTerm(key="team", values=["blue"], negated=True)], "cdef"),
    ([LabelTerm(key="team", values=["blue", "red", "blue", "none"])], "abc"),
    ([LabelTerm(key="team", values=["blue", "red"], negated=True)], "def"),
    ([LabelTerm(key="team"), LabelTerm(key="tier")], "bc"),
    ([LabelTerm(key="team", values=["blue", "green"]), LabelTerm(key="tier", negated=True)], "ae"),
    ([LabelTerm(key="tier", values=["1", "2"]), LabelTerm(key="team", negated=True)], "d"),
    ([LabelTerm(key="team"), LabelTerm(key="team", negated=True)], ""),
    ([LabelTerm(key="k\"'[$."), LabelTerm(key="tier", negated=True)], "f"),
    ([LabelTerm(key="team", values=[f"v{i}" for i in range(200)] + ["red"])], "c"),
]


@pytest.mark.parametrize(("terms", "expected"), SELECTED)
@pytest.mark.parametrize("newest_first", [True, False])
async def test_terms_about_labels_select(
    store: ResourceStore, agent: Make, run: Make, terms: list[LabelTerm], expected: str, newest_first: bool
) -> None:
    for id, labels in {
        "a": {"team": "blue"},
        "b": {"team": "blue", "tier": "1"},
        "c": {"team": "red", "tier": "2"},
        "d": {"tier": "1"},
        "e": {"team": "green"},
        "f": {"k\"'[$.": "odd"},
    }.items():
        await store.save(agent(id, labels=labels))
        await store.save(run(f"run of {id}", labels=labels))
        assert all(term.matches(labels) for term in terms) == (id in expected)
    query = Query(kind="agent", selector=terms, newest_first=newest_first, limit=2, count=True)

    seen = ""
    while True:
        page = await store.list(query)
        assert page.total == len(expected)
        seen += "".join(record.id for record in page.records)
        if not page.next_cursor:
            break
        query = replace(query, cursor=page.next_cursor)

    assert seen == (expected[::-1] if newest_first else expected)


async def test_large_questions_are_answered_and_larger_ones_refused(store: ResourceStore, agent: Make) -> None:
    labels = {f"k{i}": "v" for i in range(300)}
    await store.save(agent("a1", labels=labels, phase="p1"))
    await store.save(agent("a2", labels={"k0": "v"}, phase="p1"))
    phases = [f"p{i}" for i in range(100)]
    terms = [LabelTerm(key=key, values=["v", "w"]) for key in labels]

    assert await ids(store, Query(kind="agent", labels=labels, where={"phase": phases})) == ["a1"]
    assert await ids(store, Query(kind="agent", selector=terms, where={"phase": phases})) == ["a1"]
    assert await ids(store, Query(kind="agent", where={"phase": [f"p{i}" for i in range(19_999)]})) == ["a2", "a1"]
    for query in (
        Query(kind="agent", labels=labels, selector=terms[:1]),
        Query(kind="agent", selector=[LabelTerm(key="k", values=[str(i) for i in range(20_001)])]),
        Query(kind="agent", where={"phase": [f"p{i}" for i in range(20_001)]}),
    ):
        with pytest.raises(InvalidQueryError, match="at most"):
            await store.list(query)


async def test_records_created_after_another_are_listed(store: ResourceStore, agent: Make) -> None:
    for i in range(5):
        await store.save(agent(f"a{i}", org_id="o", labels={"odd": str(i % 2)}))
    await store.save(agent("a0", org_id="o"))
    third = (await store.get("agent", "a2")).position

    query = Query(kind="agent", org_id="o", created_after=third, newest_first=False, limit=1, count=True)
    first = await store.list(query)
    assert ([record.id for record in first.records], first.total) == (["a3"], 2)
    assert await ids(store, replace(query, cursor=first.next_cursor)) == ["a4"]
    assert await ids(store, replace(query, limit=9, labels={"odd": "1"})) == ["a3"]
    assert await ids(store, replace(query, created_after=99)) == []


async def test_a_cursor_outlives_the_values_of_a_filter_with_several(store: ResourceStore, agent: Make) -> None:
    for i in range(4):
        await store.save(agent(f"a{i}", phase=f"p{i % 2}"))
    first = await store.list(Query(kind="agent", where={"phase": ["p0", "p1"]}, limit=2))

    rest = Query(kind="agent", where={"phase": ["p0", "p1", "p2"]}, limit=2, cursor=first.next_cursor)
    assert await ids(store, rest) == ["a1", "a0"]


async def test_text_is_looked_for_in_the_id_too(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("agt-01XY", name="Ann", slug="ann"))
    await store.save(agent("agt-02XY", slug=""))
    await store.save(agent("agt-02XY", name="Bob", slug="bob"))

    assert await ids(store, Query(kind="agent", text="01xy")) == ["agt-01XY"]
    assert await ids(store, Query(kind="agent", text="xY")) == ["agt-02XY", "agt-01XY"]
    assert await ids(store, Query(kind="agent", text="bob")) == ["agt-02XY"]


async def test_labels_follow_updates(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", labels={"team": "blue", "tier": "1"}))
    await store.save(agent("a1", labels={"team": "red", "tier": "1"}))

    assert await ids(store, Query(kind="agent", labels={"team": "blue"})) == []
    assert await ids(store, Query(kind="agent", labels={"team": "red", "tier": "1"})) == ["a1"]

    await store.save(agent("a1"))

    assert await ids(store, Query(kind="agent", labels={"tier": "1"})) == []


async def test_a_declared_index_selects_by_its_place_in_the_document(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", phase="ready"))
    await store.save(agent("a2", phase="gone"))
    await store.save(agent("a3", phase="ready"))
    await store.save(agent("a3", phase="lost"))

    assert await ids(store, Query(kind="agent", where={"phase": "ready"})) == ["a1"]
    assert await ids(store, Query(kind="agent", where={"phase": ["ready", "lost"]})) == ["a3", "a1"]
    assert await ids(store, Query(kind="agent", where={"phase": ("gone", "gone", "x")})) == ["a2"]
    assert await ids(store, Query(kind="agent", where={"phase": []})) == []


async def test_values_are_compared_with_their_type(store: ResourceStore, agent: Make) -> None:
    values: dict[str, object] = {
        "true": True,
        "one": 1,
        "text": "1",
        "float": 1.0,
        "null": None,
        "object": {"a": 1},
        "list": [1],
    }
    for id, value in values.items():
        await store.save(agent(id, document={"status": {"done": value}, "spec": {"sizes": [value]}}))

    assert await ids(store, Query(kind="agent", where={"done": True})) == ["float", "one", "true"]
    assert await ids(store, Query(kind="agent", where={"done": 1})) == ["float", "one", "true"]
    assert await ids(store, Query(kind="agent", where={"done": "1"})) == ["text"]
    assert await ids(store, Query(kind="agent", where={"done": ["1"]})) == ["text"]
    assert await ids(store, Query(kind="agent", where={"size": "1", "done": "1"})) == ["text"]
    assert await ids(store, Query(kind="agent", where={"done": '{"a":1}'})) == []
    assert await ids(store, Query(kind="agent", where={"done": ["[1]", "1"]})) == ["text"]


async def test_paths_reach_into_lists_and_odd_keys(store: ResourceStore) -> None:
    await store.save(Record(kind="run", id="r1", data=json.dumps({"odd key": "x"})))
    await store.save(Record(kind="run", id="r2", data=json.dumps(["odd key"])))

    assert await ids(store, Query(kind="run", where={"odd": "x"})) == ["r1"]


async def test_more_values_than_are_merged_select_the_same(store: ResourceStore, run: Make) -> None:
    for i in range(300):
        await store.save(run(f"r{i}", agent_id=f"a{i}"))

    page = await store.list(Query(kind="run", where={"agent_id": [f"a{i}" for i in range(50, 250)]}, limit=2))

    assert [record.id for record in page.records] == ["r249", "r248"]


@pytest.mark.parametrize(
    "where", [{"ghost": "x"}, {"phase": 1.5}, {"phase": None}, {"phase": [1]}, {"phase": b"x"}, {"done": 2**63}]
)
async def test_a_condition_that_means_nothing_is_refused(store: ResourceStore, where: dict[str, object]) -> None:
    with pytest.raises(InvalidQueryError):
        await store.list(Query(kind="agent", where=where))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "query",
    [
        Query(kind="agent", org_id="\ud800"),
        Query(kind="agent", project_id="a\0"),
        Query(kind="agent", text="\0"),
        Query(kind="agent", labels={"\0": ""}),
        Query(kind="agent", labels={"": "\udfff"}),
        Query(kind="agent", where={"phase": "\0"}),
        Query(kind="agent", where={"phase": ["\ud800"]}),
    ],
)
async def test_text_that_no_record_can_have_is_refused(store: ResourceStore, query: Query) -> None:
    with pytest.raises(InvalidQueryError, match=r"NUL|surrogate"):
        await store.list(query)


async def test_text_is_found_in_slug_and_name_whatever_the_case(store: ResourceStore, agent: Make) -> None:
    await store.save(agent("a1", slug="daily-report", name="Ärger im Büro"))
    await store.save(agent("a2", slug="other", name="100%_sure"))

    for text, found in (
        ("REPORT", ["a1"]),
        ("ÄRGER", ["a1"]),
        ("büro", ["a1"]),
        ("%_", ["a2"]),
        ("%", ["a2"]),
        ("o", ["a2", "a1"]),
        ("nowhere", []),
    ):
        assert await ids(store, Query(kind="agent", text=text)) == found

    await store.save(agent("a1", slug="daily-report", name="renamed"))

    assert await ids(store, Query(kind="agent", text="ärger")) == []


async def test_all_filters_hold_together_on_every_page(store: ResourceStore, agent: Make) -> None:
    for i in range(60):
        await store.save(
            agent(
                f"a{i}",
                name=f"n{i % 2}",
                phase="ready" if i % 3 else "gone",
                org_id=f"o{i % 2}",
                project_id="p" if i % 5 else "",
                labels={"team": "blue" if i % 2 else "red", "all": "yes"},
            )
        )
    query = Query(
        kind="agent",
        org_id="o1",
        project_id="p",
        labels={"team": "blue", "all": "yes"},
        where={"phase": ["ready", "none"]},
        text="N1",
        limit=5,
        count=True,
    )
    expected = [f"a{i}" for i in range(59, -1, -1) if i % 2 and i % 3 and i % 5]
    seen: list[str] = []
    for _ in range(10):
        page = await store.list(query)
        assert page.total == len(expected)
        seen += [record.id for record in page.records]
        if not page.next_cursor:
            break
        query = replace(query, cursor=page.next_cursor)

    assert seen == expected


async def test_the_total_counts_all_matches_only_when_asked(store: ResourceStore, agent: Make) -> None:
    for i in range(7):
        await store.save(agent(f"a{i}", phase="ready" if i % 2 else "gone", labels={"l": str(i % 2)}))

    assert (await store.list(Query(kind="agent", limit=2))).total is None
    for query, total in (
        (Query(kind="agent", limit=2, count=True), 7),
        (Query(kind="agent", limit=2, count=True, where={"phase": ["ready", "gone"]}), 7),
        (Query(kind="agent", limit=2, count=True, where={"phase": "ready"}), 3),
        (Query(kind="agent", limit=2, count=True, labels={"l": "0"}), 4),
        (Query(kind="agent", limit=2, count=True, org_id="x"), 0),
    ):
        assert (await store.list(query)).total == total
