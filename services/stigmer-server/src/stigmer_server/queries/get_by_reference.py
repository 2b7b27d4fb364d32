"""Get a resource by its slug, in its present or an earlier version."""

from __future__ import annotations

import re

from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import HistoryEntry, Query, Record

from stigmer_server.errors import InvalidError, MissingError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import wire_of

_HASH = re.compile(r"[0-9a-f]{64}")
_CURRENT = ("", "latest")
_PAGE = 10


async def get_by_reference(resources: Resources, kind: Kind, reference: Message) -> bytes:
    """Return the resource that the reference means.

    Without an organization that is the newest with the slug in any that the caller may see, its own before the
    platform's.

    Where the reference gives a scope, resources of another scope are not meant.

    Raises:
        InvalidError: The reference has no slug, or means another kind.
        MissingError: There is no such resource, or no such version of it.
    """
    if not reference.slug:
        raise InvalidError.of("slug", "reference.slug.required", "a reference needs a slug")
    if reference.kind not in (0, kind.described.number):
        raise InvalidError.of(
            "kind", "reference.kind.mismatch", f"this service knows only {kind.described.display_name}"
        )
    record = await _find(resources, kind, reference)
    if record is None:
        raise MissingError.of(kind.title, f"{reference.org}/{reference.slug}".removeprefix("/"))
    if reference.version in _CURRENT or reference.version in kind.version_names(kind.parse(wire_of(record))):
        return resources.shown(kind, record)
    return await _version(resources, kind, record, reference.version)


async def _find(resources: Resources, kind: Kind, reference: Message) -> Record | None:
    caller = resources.call.caller
    for org in (reference.org,) if reference.org else caller.places(shared=kind.shared):
        if org is None or caller.sees(org, shared=kind.shared):
            record = await _find_in(resources, kind, reference, org)
            if record is not None:
                return record
    return None


async def _find_in(resources: Resources, kind: Kind, reference: Message, org: str | None) -> Record | None:
    """Return the resource that is meant in an organization; None: in any."""
    if kind.named and org is not None:
        record = await resources.store.find(kind.name, org_id=org, slug=reference.slug)
        return record if record is not None and _is_meant(kind, record, reference) else None
    query = Query(kind=kind.name, org_id=org, slug=reference.slug, limit=_PAGE)
    async for record in stored_records(resources.store, query):
        if _is_meant(kind, record, reference):
            return record
    return None


def _is_meant(kind: Kind, record: Record, reference: Message) -> bool:
    """Tell whether a resource has the scope that is asked for; one without any fits every scope."""
    return not reference.scope or kind.parse(wire_of(record)).metadata.owner_scope in (0, reference.scope)


async def _version(resources: Resources, kind: Kind, record: Record, version: str) -> bytes:
    """Return an earlier state of the resource: by the hash of its content, or by its tag or version number."""
    try:
        entry: HistoryEntry = (
            await resources.store.archived(kind.name, record.id, hash=version)
            if _HASH.fullmatch(version)
            else await resources.store.archived(kind.name, record.id, tag=version)
        )
    except NotFoundError as error:
        raise MissingError.of(f"{kind.title} version", f"{record.slug}@{version}") from error
    return resources.redacted(kind, entry.wire or b"")
