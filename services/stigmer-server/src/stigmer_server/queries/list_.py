"""List resources of a kind, page by page, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stigmer_sqlite.errors import InvalidCursorError
from stigmer_sqlite.port import LabelTerm, Query

from stigmer_server.errors import InvalidError, TooLargeError
from stigmer_server.kinds import Kind
from stigmer_server.kinds.port import Filter
from stigmer_server.labels import TAG
from stigmer_server.queries.belonging import belonging
from stigmer_server.resources import Resources

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
_DIGITS = 9
_PIECE = 50


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
    """The cursor that came with the page before, or the number of a page, from 1."""
    page_number: int | None = None
    """The number of the page, 0 and 1 are the first; None where pages are asked for by token."""
    largest: int = 0
    """Bytes of the encoded resources on a page at most; a page holds one however large. 0: no bound.

    A page that is asked for by number holds all that belongs on it, or cannot be had.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of resources, encoded as callers may see them."""

    entries: tuple[bytes, ...]
    next_page_token: str
    """What to ask for next, empty on the last page: a number where the request gave one, else a cursor."""
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
        InvalidError: The page's size is negative or too large, its number is negative, or its token is not one of
            ours; or resources of the kind do not belong to such a parent.
        DeniedError: The caller may not see the organization.
        TooLargeError: The page is asked for by its number, and holds more than `largest`.
    """
    field = "page_size" if listing.page_number is None else "page_info.size"
    size, number = page_size_of(listing.page_size, field=field), _number(listing)
    query = await _query(resources, kind, listing)
    if number is not None:
        query = replace(query, cursor="", offset=(number - 1) * size)
    try:
        entries, following, total = await _read(resources, kind, query, size=size, largest=listing.largest)
    except InvalidCursorError as error:
        raise InvalidError.of("page_token", "page_token.known", f"{error}; begin with the first page") from error
    if number is not None and following and len(entries) < size:
        problem = f"page {number} of {size} resources holds more than {listing.largest} bytes"
        raise TooLargeError(f"{problem}; ask for smaller pages, or for pages by token")
    if following and listing.page_number is not None:
        following = str((number or 1) + 1)
    return Listed(entries=tuple(entries), next_page_token=following, total=total, page_size=size)


async def _read(
    resources: Resources, kind: Kind, query: Query, *, size: int, largest: int
) -> tuple[list[bytes], str, int]:
    """Return a page's entries, as many as fit on it, the cursor of what follows them, and how many match in all.

    Large pages are read in pieces, so that what does not fit on them is not read either.
    """
    entries: list[bytes] = []
    total, taken = 0, 0
    while True:
        piece = replace(query, limit=min(_PIECE, size - len(entries)), count=not entries)
        page = await resources.store.list(piece)
        total = total if page.total is None else page.total
        shown = [resources.shown(kind, record) for record in page.records]
        room = largest - taken if largest else sum(map(len, shown))
        fit = _fitting(shown, room) if entries else fitting(shown, room)
        if fit < len(shown):
            if not fit:
                return entries, piece.cursor, total
            page = await resources.store.list(replace(piece, limit=fit, count=False))
            return [*entries, *(resources.shown(kind, record) for record in page.records)], page.next_cursor, total
        entries += shown
        taken += sum(map(len, shown))
        if len(entries) == size or not page.next_cursor:
            return entries, page.next_cursor, total
        query = replace(query, cursor=page.next_cursor, offset=0)


def fitting(entries: Sequence[bytes], largest: int) -> int:
    """Return how many entries, from the first, fit on a page of so many bytes; one always does."""
    return max(_fitting(entries, largest), min(1, len(entries)))


def _fitting(entries: Sequence[bytes], room: int) -> int:
    for number, entry in enumerate(entries):
        room -= len(entry)
        if room < 0:
            return number
    return len(entries)


def page_size_of(given: int, *, field: str = "page_size") -> int:
    """Return how many entries a page has for what a request says. Raises: InvalidError."""
    if not 0 <= given <= LARGEST_PAGE:
        problem = f"give a size from 1 to {LARGEST_PAGE}, or 0 for {DEFAULT_PAGE}"
        raise InvalidError.of(field, "page_size.range", problem)
    return given or DEFAULT_PAGE


def _number(listing: Listing) -> int | None:
    """Return the number of the page that is asked for, from 1; None for one that is asked for by its cursor."""
    if listing.page_number is not None:
        if listing.page_number < 0:
            raise InvalidError.of("page_info.num", "page_number.range", "pages count from 1")
        return max(listing.page_number, 1)
    token = listing.page_token
    if not (token.isascii() and token.isdecimal()):
        return None
    if len(token) > _DIGITS or not int(token):
        raise InvalidError.of("page_token", "page_number.range", "pages count from 1, to a billion at most")
    return int(token)


async def _query(resources: Resources, kind: Kind, listing: Listing) -> Query:
    where: dict[str, Filter] = {}
    for name, value in listing.filters.items():
        where |= await _filtered(resources, kind, name, value)
    if listing.parent_id:
        where |= await belonging(resources, kind, listing.parent_id)
    return Query(
        kind=kind.name,
        org_id=resources.call.caller.among(listing.org, shared=kind.shared),
        where=where,
        selector=tuple(listing.selector),
        labels={**listing.labels, **{TAG + tag: "1" for tag in listing.tags}},
        text=listing.text,
        cursor=listing.page_token,
    )


async def _filtered(resources: Resources, kind: Kind, name: str, value: Filter) -> Mapping[str, Filter]:
    if name in kind.all_indexes:
        return {name: value}
    return await resources.store.read(lambda reader: kind.filtered(name, value, reader))
