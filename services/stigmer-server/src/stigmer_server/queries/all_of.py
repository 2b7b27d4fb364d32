"""Get all resources of a kind that there are for a caller, for the requests that know no pages."""

from __future__ import annotations

from collections.abc import Mapping

from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import Query, Record

from stigmer_server.kinds import Kind
from stigmer_server.kinds.port import Filter
from stigmer_server.resources import Resources

_PAGE = 500


async def all_of(resources: Resources, kind: Kind, where: Mapping[str, Filter] | None = None) -> list[Record]:
    """Return every record of the kind that the caller may see, newest first."""
    orgs = resources.call.caller.among("", shared=kind.shared)
    query = Query(kind=kind.name, org_id=orgs, where=where or {}, limit=_PAGE)
    return [record async for record in stored_records(resources.store, query)]
