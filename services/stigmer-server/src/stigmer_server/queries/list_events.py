"""List the events of an organization that are kept, newest first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stigmer_sqlite.errors import InvalidCursorError
from stigmer_sqlite.port import Query

from stigmer_server import cloud_events
from stigmer_server.cloud_events import Selection
from stigmer_server.errors import InvalidError
from stigmer_server.queries.list_ import fitting, page_size_of
from stigmer_server.resources import Resources
from stigmer_server.unit import wire_of

_LARGEST_PAGE = 8 * 2**20
"""Bytes of the events on a page at most; a message has a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEvents:
    """A page of events, encoded."""

    entries: tuple[bytes, ...]
    next_page_token: str


async def list_events(
    resources: Resources, org: str, *, of_type: str = "", source: str = "", page_size: int = 0, page_token: str = ""
) -> ListedEvents:
    """Return a page of events; pages that follow each other neither repeat nor skip one that is kept throughout.

    Raises:
        InvalidError: The page's size is negative or too large, or its token is not one of ours.
        DeniedError: The caller may not see the organization.
    """
    resources.call.caller.confine(org)
    query = Query(
        kind=cloud_events.EVENT,
        org_id=org,
        where={**Selection(org=org, source=source).where, **({"type": of_type} if of_type else {})},
        limit=page_size_of(page_size),
        cursor=page_token,
    )
    try:
        page = await resources.store.list(query)
    except InvalidCursorError as error:
        raise InvalidError.of("page_token", "page_token.known", f"{error}; begin with the first page") from error
    entries = tuple(map(wire_of, page.records))
    if (fit := fitting(entries, _LARGEST_PAGE)) < len(entries):
        page = await resources.store.list(replace(query, limit=fit))
        entries = tuple(map(wire_of, page.records))
    return ListedEvents(entries=entries, next_page_token=page.next_cursor)
