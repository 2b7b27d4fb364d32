"""List the schedules of an organization."""

from __future__ import annotations

from stigmer_sqlite.errors import InvalidCursorError
from stigmer_sqlite.port import Query

from stigmer_server import schedules
from stigmer_server.errors import InvalidError
from stigmer_server.queries.list_ import page_size_of
from stigmer_server.resources import Resources
from stigmer_server.schedules import Schedule


async def list_schedules(
    resources: Resources, org: str, *, page_size: int = 0, page_token: str = ""
) -> tuple[list[Schedule], str]:
    """Return a page of schedules, in the order in which they were made, and the token of the next.

    Raises:
        InvalidError: The page's size is negative or too large, or its token is not one of ours.
        DeniedError: The caller may not see the organization.
    """
    resources.call.caller.confine(org)
    query = Query(
        kind=schedules.SCHEMA.kind,
        org_id=org,
        newest_first=False,
        limit=page_size_of(page_size),
        cursor=page_token,
    )
    try:
        page = await resources.store.list(query)
    except InvalidCursorError as error:
        raise InvalidError.of("page_token", "page_token.known", f"{error}; begin with the first page") from error
    found = [schedules.decoded(record.data) for record in page.records]
    return [schedule for schedule in found if not schedule.gone], page.next_cursor
