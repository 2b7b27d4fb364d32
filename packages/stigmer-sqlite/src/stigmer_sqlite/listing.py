"""The SQL of one page: which index drives it, and which conditions are checked on the way.

Every index ends in `position`, so a page is a run of index entries from the cursor on: its cost depends on the
page, not on how much is stored. Where several indexes could drive, the one with the fewest entries does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from stigmer_sqlite.cursors import organizations
from stigmer_sqlite.kinds import Kind
from stigmer_sqlite.port import LabelTerm, Query
from stigmer_sqlite.schema import index_name

Value = str | int
# Beyond this many accepted values a sorted IN costs less than merging as many index runs.
_MERGED_VALUES = 100
# A statement may have this many parameters; every merged run repeats those of the other conditions.
_PARAMETERS = 30_000
# Counting further would cost more than the better choice saves.
_PROBE = 200


@dataclass(frozen=True, slots=True)
class Condition:
    """A term of a WHERE clause over `resources AS r`."""

    sql: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver:
    """An index whose entries are walked in order: one run of them, or several that are merged."""

    source: str
    whole: Condition
    """Selects all its entries."""
    runs: tuple[Condition, ...] = ()
    """Each selects a part of them that is in order; none: the whole is in order."""
    position: str = "r.position"


@dataclass(frozen=True, slots=True)
class Listing:
    """A query's drivers, and for each of them what else must hold."""

    kind: Kind
    query: Query
    choices: tuple[tuple[Driver, tuple[Condition, ...]], ...]

    def choose(self, connection: sqlite3.Connection) -> tuple[Driver, tuple[Condition, ...]]:
        """Return the driver with the fewest entries."""
        if len(self.choices) == 1:
            return self.choices[0]
        return min(self.choices, key=lambda choice: _entries(connection, choice[0]))


def plan(kind: Kind, query: Query, accepted: dict[str, tuple[Value, ...]]) -> Listing | None:
    """Lay out how to answer a checked query; None when nothing can match."""
    if any(not values for values in accepted.values()) or organizations(query) == ():
        return None
    selected = [_label_filter(kind, term) for term in _positive_terms(query)]
    filters = [*_where_filters(kind, accepted), *selected, *_column_filters(kind, query)]
    always = _unindexed(kind, query)
    if not filters:
        everything = Driver("resources AS r INDEXED BY resources_by_kind", Condition("r.kind = ?", (kind.name,)))
        return Listing(kind, query, ((everything, always),))
    choices: list[tuple[Driver, tuple[Condition, ...]]] = []
    for at, (driver, _) in enumerate(filters):
        rest = tuple(condition for other, (_, condition) in enumerate(filters) if other != at)
        choices.append((driver, rest + always))
    return Listing(kind, query, tuple(choices))


def page_sql(
    choice: tuple[Driver, tuple[Condition, ...]], query: Query, after: int | None, columns: str
) -> tuple[str, list[Value]]:
    """Return the statement for one page and one record more, which tells whether another page follows."""
    driver, conditions = choice
    order, beyond = ("DESC", "<") if query.newest_first else ("ASC", ">")
    if after is not None:
        conditions = (*conditions, Condition(f"{driver.position} {beyond} ?", (after,)))
    conditions = (*conditions, *_created_after(driver, query))
    limit = query.limit + 1
    repeated = sum(len(condition.values) for condition in conditions) + 4
    if not driver.runs or len(driver.runs) * repeated > _PARAMETERS:
        where, of_whole = _conjunction((driver.whole, *conditions))
        ordered = f"ORDER BY {driver.position} {order} LIMIT ? OFFSET ?"
        return f"SELECT {columns} FROM {driver.source} WHERE {where} {ordered}", [*of_whole, limit, query.offset]  # noqa: S608 # parts of our own
    arms: list[str] = []
    values: list[Value] = []
    for run in driver.runs:
        where, of_run = _conjunction((run, *conditions))
        arms.append(f"SELECT r.rowid AS row, {driver.position} AS place FROM {driver.source} WHERE {where}")  # noqa: S608 # parts of our own
        values += of_run
    merged = f"{' UNION ALL '.join(arms)} ORDER BY place {order} LIMIT ? OFFSET ?"
    sql = f"SELECT {columns} FROM ({merged}) CROSS JOIN resources AS r ON r.rowid = row ORDER BY place {order}"  # noqa: S608 # parts of our own
    return sql, [*values, limit, query.offset]


def count_sql(choice: tuple[Driver, tuple[Condition, ...]], query: Query) -> tuple[str, list[Value]]:
    """Return the statement that counts all matches."""
    driver, conditions = choice
    where, values = _conjunction((driver.whole, *conditions, *_created_after(driver, query)))
    return f"SELECT count(*) FROM {driver.source} WHERE {where}", values  # noqa: S608 # parts of our own


def _where_filters(kind: Kind, accepted: dict[str, tuple[Value, ...]]) -> list[tuple[Driver, Condition]]:
    filters: list[tuple[Driver, Condition]] = []
    for name, values in accepted.items():
        place = f"json_extract(r.data, '{kind.indexes[name].text}')"
        condition = _equals(place, values)
        # The kind stands there literally because only then does SQLite see that the partial index applies.
        of_kind = f"r.kind = '{kind.name}' AND "
        whole, *runs = (
            Condition(of_kind + part.sql, part.values)
            for part in (condition, *(_equals(place, (value,)) for value in values))
        )
        merged = tuple(runs) if 1 < len(runs) <= _MERGED_VALUES else ()
        filters.append((Driver(f'resources AS r INDEXED BY "{index_name(kind, name)}"', whole, merged), condition))
    return filters


def _equals(place: str, values: Sequence[Value]) -> Condition:
    sql = _one_of(place, values)
    # An object or array is no scalar, but json_extract would give its text.
    if any(isinstance(value, str) and value[:1] in ("{", "[") for value in values):
        path = place.removeprefix("json_extract(r.data, ").removesuffix(")")
        sql += f" AND json_type(r.data, {path}) NOT IN ('object', 'array')"
    return Condition(sql, tuple(values))


def _positive_terms(query: Query) -> list[LabelTerm]:
    equal = [LabelTerm(key=key, values=(value,)) for key, value in query.labels.items()]
    return [*equal, *(term for term in query.selector if not term.negated)]


def _label_filter(kind: Kind, term: LabelTerm) -> tuple[Driver, Condition]:
    if not term.values:
        # The index on keys has no ids in it, but positions are unique, too.
        source = (
            "resource_labels AS l INDEXED BY resource_labels_by_key "
            "CROSS JOIN resources AS r INDEXED BY resources_by_kind ON r.kind = l.kind AND r.position = l.position"
        )
        whole = Condition("l.kind = ? AND l.key = ?", (kind.name, term.key))
        return Driver(source, whole, position="l.position"), _has_label(kind, term)
    source = "resource_labels AS l CROSS JOIN resources AS r ON r.id = l.id"
    values = tuple(dict.fromkeys(term.values))
    whole, *runs = (
        Condition(f"l.kind = ? AND l.key = ? AND {_one_of('l.value', part)}", (kind.name, term.key, *part))
        for part in (values, *((value,) for value in values))
    )
    merged = tuple(runs) if 1 < len(runs) <= _MERGED_VALUES else ()
    return Driver(source, whole, merged, position="l.position"), _has_label(kind, term)


def _has_label(kind: Kind, term: LabelTerm) -> Condition:
    """Return what holds of a record that has the label, whether or not the term asks for the contrary."""
    value = f" AND {_one_of('x.value', term.values)}" if term.values else ""
    sql = (
        "EXISTS (SELECT 1 FROM resource_labels AS x INDEXED BY resource_labels_by_key "  # noqa: S608 # parts of our own
        f"WHERE x.kind = ? AND x.key = ? AND x.position = r.position{value})"
    )
    return Condition(sql, (kind.name, term.key, *term.values))


def _one_of(place: str, values: Sequence[Value]) -> str:
    return f"{place} = ?" if len(values) == 1 else f"{place} IN ({', '.join('?' * len(values))})"


def _column_filters(kind: Kind, query: Query) -> list[tuple[Driver, Condition]]:
    filters: list[tuple[Driver, Condition]] = []
    if (orgs := organizations(query)) is not None:
        whole, *runs = (
            Condition(f"r.kind = ? AND {_one_of('r.org_id', values)}", (kind.name, *values))
            for values in (orgs, *((org,) for org in orgs))
        )
        merged = tuple(runs) if len(runs) > 1 else ()
        driver = Driver("resources AS r INDEXED BY resources_by_org", whole, merged)
        filters.append((driver, Condition(_one_of("r.org_id", orgs), orgs)))
    if query.slug:
        run = Condition("r.kind = ? AND r.slug = ? AND r.slug <> ''", (kind.name, query.slug))
        driver = Driver("resources AS r INDEXED BY resources_by_slug", run)
        filters.append((driver, Condition("r.slug = ?", (query.slug,))))
    if query.project_id:
        run = Condition("r.kind = ? AND r.project_id = ? AND r.project_id <> ''", (kind.name, query.project_id))
        driver = Driver("resources AS r INDEXED BY resources_by_project", run)
        filters.append((driver, Condition("r.project_id = ?", (query.project_id,))))
    return filters


def _created_after(driver: Driver, query: Query) -> tuple[Condition, ...]:
    return (Condition(f"{driver.position} > ?", (query.created_after,)),) if query.created_after > 0 else ()


def _unindexed(kind: Kind, query: Query) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    for term in query.selector:
        if term.negated:
            found = _has_label(kind, term)
            conditions.append(Condition(f"NOT {found.sql}", found.values))
    if query.text:
        conditions.append(Condition("instr(r.search, ?) > 0", (query.text.casefold(),)))
    if query.project_id == "":
        conditions.append(Condition("r.project_id = ''"))
    return tuple(conditions)


def _entries(connection: sqlite3.Connection, driver: Driver) -> int:
    where, values = _conjunction((driver.whole,))
    source = "resource_labels AS l" if driver.position == "l.position" else driver.source
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {source} WHERE {where} LIMIT ?)"  # noqa: S608 # parts of our own
    found: int = connection.execute(sql, [*values, _PROBE]).fetchone()[0]
    return found


def _conjunction(conditions: Sequence[Condition]) -> tuple[str, list[Value]]:
    return " AND ".join(f"({c.sql})" for c in conditions), [value for c in conditions for value in c.values]
