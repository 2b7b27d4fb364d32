"""Every record of a query, read page by page: no more than one page is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from stigmer_sqlite.port import Query, Reader, Record, ResourceStore


def records(reader: Reader, query: Query) -> Iterator[Record]:
    """Yield all records of a query within one read or transaction; `query.limit` is the size of a page.

    Raises:
        InvalidQueryError: As `Reader.list`.
    """
    while True:
        page = reader.list(query)
        yield from page.records
        if not page.next_cursor:
            return
        query = replace(query, cursor=page.next_cursor)


async def stored_records(store: ResourceStore, query: Query) -> AsyncIterator[Record]:
    """Yield all records of a query, each page as it is when it is read; `query.limit` is the size of a page.

    Raises:
        InvalidQueryError: As `ResourceStore.list`.
    """
    while True:
        page = await store.list(query)
        for record in page.records:
            yield record
        if not page.next_cursor:
            return
        query = replace(query, cursor=page.next_cursor)
