"""List resources of a kind, page by page, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stigmer_sqlite.port import LabelTerm, Page, Query, Transaction

from stigmer_server.errors import InvalidError
from stigmer_server.kinds import Kind
from stigmer_server.kinds.port import Filter
from stigmer_server.queries.belonging import belonging
from stigmer_server.resources import Resources
from stigmer_server.unit import TAG_LABEL

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What to list."""

    filters: Mapping[str, Filter] = field(default_factory=dict[str, Filter])
    """Fields of the request, by name, such as `session_id` or `phase`."""
    org: str = ""
    """Slug of an organization; empty for every one that the caller may see."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    selector: Sequence[LabelTerm] = ()
    parent_id: str = ""
    """Only what belongs to this resource; empty for all."""
    tags: Sequence[str] = ()
    """All of which a resource must have."""
    text: str = ""
    page_size: int = 0
    """0: 100."""
    page_token: str = ""
    """The number of a page, from 1, or the cursor that came with the page before."""
    largest: int = 0
    """Bytes of the encoded resources on a page at most; a page holds one however large. 0: no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of resources, encoded as callers may see them."""

    entries: tuple[bytes, ...]
    next_page_token: str
    total: int
    page_size: int

    @property
    def total_pages(self) -> int:
        """How many pages of this size there are."""
        return -(-self.total // self.page_size)


async def list_(resources: Resources, kind: Kind, listing: Listing) -> Listed:
    """Return a page of resources and how many there are in all.

    Pages that follow each other by cursor neither repeat nor skip a resource that exists throughout.

    Raises:
        InvalidError: The page's size is negative or too large, or its token is not one of ours; or resources of the
            kind do not belong to such a parent.
        DeniedError: The caller may not see the organization.
    """
    size = _size(listing.page_size)
    query = await _query(resources, kind, listing, size)
    page = await resources.store.list(query)
    total = page.total or 0
    if listing.page_token.isdecimal():
        page = await _turn(resources, query, page, int(listing.page_token))
    entries = tuple(resources.shown(kind, record) for record in page.records)
    if listing.largest and (fitting := _fitting(entries, listing.largest)) < len(entries):
        page = await resources.store.list(replace(query, limit=fitting, count=False))
        entries = tuple(resources.shown(kind, record) for record in page.records)
    return Listed(entries=entries, next_page_token=page.next_cursor, total=total, page_size=size)


def _fitting(entries: Sequence[bytes], largest: int) -> int:
    """Return how many entries, from the first, fit on a page of so many bytes; one always does."""
    total = 0
    for number, entry in enumerate(entries):
        total += len(entry)
        if total > largest:
            return max(number, 1)
    return len(entries)


def _size(given: int) -> int:
    if not 0 <= given <= LARGEST_PAGE:
        raise InvalidError.of(
            "page_size", "page_size.range", f"give a size from 1 to {LARGEST_PAGE}, or 0 for {DEFAULT_PAGE}"
        )
    return given or DEFAULT_PAGE


async def _query(resources: Resources, kind: Kind, listing: Listing, size: int) -> Query:
    where: dict[str, Filter] = {}
    for name, value in listing.filters.items():
        where |= await _filtered(resources, kind, name, value)
    if listing.parent_id:
        where |= await belonging(resources, kind, listing.parent_id)
    return Query(
        kind=kind.name,
        org_id=resources.call.caller.confine(listing.org),
        where=where,
        selector=tuple(listing.selector),
        labels={**listing.labels, **{TAG_LABEL + tag: "1" for tag in listing.tags}},
        text=listing.text,
        limit=size,
        cursor="" if listing.page_token.isdecimal() else listing.page_token,
        count=True,
    )


async def _filtered(resources: Resources, kind: Kind, name: str, value: Filter) -> Mapping[str, Filter]:
    if name in kind.all_indexes:
        return {name: value}

    def work(transaction: Transaction) -> Mapping[str, Filter]:
        return kind.filtered(name, value, transaction)

    return await resources.store.transact(work)


async def _turn(resources: Resources, query: Query, page: Page, number: int) -> Page:
    """Turn from the first page to the one with the number; past the last one there is nothing."""
    if number < 1:
        raise InvalidError.of("page_token", "page_token.range", "pages count from 1")
    for _ in range(number - 1):
        if not page.next_cursor:
            return Page(records=())
        page = await resources.store.list(replace(query, cursor=page.next_cursor, count=False))
    return page
