"""Every question is answered through an index, in order, whatever is stored."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from stigmer_sqlite import KindSchema, LabelTerm, NotFoundError, Query, Record, SqliteStore, Transaction

LABELS = {"team": "blue", "tier": "1"}


@pytest.fixture
async def asked(tmp_path: Path, schemas: tuple[KindSchema, ...]) -> AsyncIterator[tuple[SqliteStore, list[str]]]:
    """A store, and the statements that its reading connection has run."""
    async with await SqliteStore.open(tmp_path / "store.db", schemas) as store:
        data = '{"status": {"phase": "ready", "done": true}}'
        record = Record(kind="agent", id="a1", org_id="o", project_id="p", slug="s", labels=LABELS, data=data)
        await store.save(record)
        statements: list[str] = []
        connection: sqlite3.Connection = store._near_connection
        connection.set_trace_callback(statements.append)
        yield store, statements
        connection.set_trace_callback(None)


def plans(store: SqliteStore, statements: list[str]) -> list[str]:
    connection: sqlite3.Connection = store._near_connection
    connection.set_trace_callback(None)
    asked = [statement for statement in statements if statement.startswith("SELECT")]
    assert asked
    return ["; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")) for sql in asked]


async def test_a_record_is_found_by_id_or_slug_through_an_index(asked: tuple[SqliteStore, list[str]]) -> None:
    store, statements = asked
    await store.get("agent", "a1")
    await store.find("agent", org_id="o", slug="s")
    await store.find("agent", org_id=None, slug="s")

    assert plans(store, statements) == [
        "SEARCH r USING INDEX sqlite_autoindex_resources_1 (id=?)",
        "SEARCH r USING INDEX resources_named (kind=? AND org_id=? AND slug=?)",
        "SEARCH r USING INDEX resources_by_slug (kind=? AND slug=?)",
    ]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(kind="agent"), "resources_by_kind (kind=?"),
        (Query(kind="agent", text="s"), "resources_by_kind (kind=?"),
        (Query(kind="agent", org_id="o"), "resources_by_org (kind=? AND org_id=?"),
        (Query(kind="agent", slug="s"), "resources_by_slug (kind=? AND slug=?"),
        (Query(kind="agent", project_id="p"), "resources_by_project (kind=? AND project_id=?"),
        (Query(kind="agent", where={"phase": "ready"}), "where_agent.phase (<expr>=?"),
        (Query(kind="agent", where={"done": True}), "where_agent.done (<expr>=?"),
        (Query(kind="agent", where={"phase": ["ready", "x"]}), "where_agent.phase (<expr>=?"),
        (Query(kind="agent", labels={"team": "blue"}), "PRIMARY KEY (kind=? AND key=? AND value=?"),
        (Query(kind="agent", labels=LABELS), "resource_labels_by_key (kind=? AND key=? AND position=?"),
        (Query(kind="agent", selector=(LabelTerm(key="team"),)), "resource_labels_by_key (kind=? AND key=?"),
        (Query(kind="agent", selector=(LabelTerm(key="team", values=("blue", "x")),)), "key=? AND value=?"),
        (Query(kind="agent", selector=(LabelTerm(key="x", negated=True),)), "(kind=? AND key=? AND position=?"),
        (Query(kind="agent", org_id="o", labels=LABELS, where={"phase": "ready", "done": 1}, project_id="p"), "=?"),
    ],
)
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_page_is_a_run_of_an_index_in_order(
    asked: tuple[SqliteStore, list[str]], query: Query, index: str, *, newest_first: bool
) -> None:
    store, statements = asked
    query = replace(query, newest_first=newest_first)
    assert len((await store.list(query)).records) == 1

    *_, plan = plans(store, statements)
    assert index in plan
    # Merged runs sort no more than the page they have chosen.
    sorted_page = "MERGE (UNION ALL)" in plan
    assert ("TEMP B-TREE" in plan) == sorted_page
    assert not re.search(r"SCAN (?!\(subquery)", plan)


@pytest.mark.parametrize(
    ("query", "range_"),
    [
        (Query(kind="agent", org_id="o", created_after=1), "(kind=? AND org_id=? AND position>?)"),
        (Query(kind="agent", labels={"team": "blue"}, created_after=1), "value=? AND position>?)"),
        (Query(kind="agent", selector=(LabelTerm(key="team"),), created_after=1), "key=? AND position>?)"),
    ],
)
async def test_what_was_created_after_another_is_a_range_of_an_index(
    asked: tuple[SqliteStore, list[str]], query: Query, range_: str
) -> None:
    store, statements = asked
    await store.list(query)

    *_, plan = plans(store, statements)
    assert range_ in plan
    assert "TEMP B-TREE" not in plan


async def test_the_narrowest_index_drives(tmp_path: Path, schemas: tuple[KindSchema, ...]) -> None:
    async with await SqliteStore.open(tmp_path / "store.db", schemas) as store:

        def fill(tx: Transaction) -> None:
            for i in range(1000):
                phase, team = ("rare" if i == 0 else "common"), ("rare" if i == 1 else "common")
                data = f'{{"status": {{"phase": "{phase}"}}}}'
                tx.save(Record(kind="agent", id=f"a{i}", org_id="o", data=data, labels={"team": team}))

        await store.transact(fill)
        for labels, phase, index in (
            ({"team": "common"}, "rare", "where_agent.phase"),
            ({"team": "rare"}, "common", "SEARCH l USING PRIMARY KEY"),
        ):
            statements: list[str] = []
            store._near_connection.set_trace_callback(statements.append)
            page = await store.list(Query(kind="agent", org_id="o", labels=labels, where={"phase": phase}))

            assert len(page.records) == 1
            assert index in plans(store, statements)[-1]


async def test_history_and_changes_are_read_through_their_keys(asked: tuple[SqliteStore, list[str]]) -> None:
    store, statements = asked
    await store.history("agent", "a1")
    await store.history("agent", "a1", before=5, limit=2, documents=False)
    for wanted in ({"version": 1}, {"number": 1}, {"tag": "t"}, {"hash": "h"}):
        with pytest.raises(NotFoundError):
            await store.archived("agent", "a1", **wanted)  # type: ignore[arg-type]
    await anext(store.watch(after=0))

    found = plans(store, statements)
    keys = (
        "by_number (id=?",
        "by_number (id=? AND number<?)",
        "(id=? AND version=?)",
        "by_number (id=? AND number=?)",
        "by_tag (id=? AND tag=?)",
        "by_hash (id=? AND hash=?)",
        "INTEGER PRIMARY KEY (rowid>?)",
    )
    for plan, key in zip(found, keys, strict=True):
        assert key in plan
        # What a unique key finds is one row, which SQLite may sort for all we care.
        assert "TEMP B-TREE" not in plan or key.endswith(("AND version=?)", "AND number=?)"))
