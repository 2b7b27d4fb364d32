"""Find out which resources of a kind belong to another resource, at whatever distance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stigmer_protos import descriptors
from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import Query

from stigmer_server.errors import InvalidError
from stigmer_server.kinds import Kind, Kinds
from stigmer_server.kinds.port import Filter
from stigmer_server.resources import Resources

MOST_BETWEEN = 10_000
"""How many resources may stand between the two, such as the sessions of an agent whose executions are asked for."""
_PAGE = 1000


async def belonging(resources: Resources, kind: Kind, id: str, *, field: str = "parent_id") -> Mapping[str, Filter]:
    """Return the filters that select the resources of the kind that belong to the resource with the id.

    The kind of that resource is read from its id; whether it exists is not asked.

    Raises:
        InvalidError: Resources of the kind belong to no such resource, or too many stand in between.
    """
    ancestor = _kind_of(resources.kinds, id)
    path = _path(resources.kinds, kind, ancestor) if ancestor is not None else None
    if path is None:
        owners = ", ".join(sorted(set(_owners(resources.kinds, kind)))) or "nothing"
        named = f"a {ancestor.title}" if ancestor is not None else "no id of a resource"
        problem = f"{id!r} is {named}; {kind.title} resources belong to: {owners}"
        raise InvalidError.of(field, "parent_id.kind", problem)
    *between, (_, last) = path
    ids: Filter = id
    for step, index in between:
        ids = await _ids(resources, step, {index: ids}, field)
    return {last: ids}


def _kind_of(kinds: Kinds, id: str) -> Kind | None:
    try:
        name = descriptors.kind_by_prefix(id.partition("-")[0]).enum_name
    except KeyError:
        return None
    return kinds.get(name)


def _path(kinds: Kinds, kind: Kind, ancestor: Kind) -> list[tuple[Kind, str]] | None:
    """Return the kinds on the way from the ancestor down to the kind, each with its index on the one above it."""
    for parent in kind.parents:
        if parent.kind == ancestor.name:
            return [(kind, parent.index)]
    for name in (f"{ancestor.name}_id", f"{ancestor.name.rpartition('_')[2]}_id"):
        if name in kind.all_indexes:
            return [(kind, name)]
    for parent in kind.parents:
        if (path := _path(kinds, kinds[parent.kind], ancestor)) is not None:
            return [*path, (kind, parent.index)]
    return None


def _owners(kinds: Kinds, kind: Kind) -> Iterator[str]:
    return (other.title for other in kinds.values() if other is not kind and _path(kinds, kind, other) is not None)


async def _ids(resources: Resources, kind: Kind, where: Mapping[str, Filter], field: str) -> list[str]:
    query = Query(kind=kind.name, where=where, limit=_PAGE)
    found: list[str] = []
    async for record in stored_records(resources.store, query):
        found.append(record.id)
        if len(found) > MOST_BETWEEN:
            problem = f"more than {MOST_BETWEEN} {kind.title} resources stand in between; ask for those of one of them"
            raise InvalidError.of(field, "parent_id.too_many", problem)
    return found
