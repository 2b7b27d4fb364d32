"""List the versions of a resource, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from stigmer_sqlite.port import HistoryEntry

from stigmer_server.kinds import Kind
from stigmer_server.queries.list_ import page_size_of
from stigmer_server.resources import Resources
from stigmer_server.revisions import wire_of
from stigmer_server.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What is told of a version without its content."""

    version: str
    """Its id, as `metadata.version.id` says it."""
    event: str
    """created, updated, pushed or rolled_back."""
    tag: str
    hash: str
    actor: str
    message: str
    created_at: datetime
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """A page of versions."""

    entries: tuple[Revision, ...]
    next_page_token: str
    total: int


async def list_revisions(
    resources: Resources, kind: Kind, id: str, *, page_size: int = 0, page_token: str = ""
) -> Revisions:
    """Return a page of the resource's versions, and how many there are in all.

    Raises:
        MissingError: There is no such resource.
        InvalidError: The page's size is negative or too large, or its token is not one of ours.
    """
    size = page_size_of(page_size)
    await resources.record(kind, id)
    tokens, purpose = Tokens(await resources.store.identity()), f"revisions of {id}"
    before = tokens.decode(purpose, page_token, field="page_token") if page_token else None
    store = resources.store
    newest = await store.history(kind.name, id, limit=1, documents=False)
    last = newest[0].number if newest else 0
    page = await store.history(kind.name, id, before=before, limit=size + 1, documents=False)
    shown = [await _with_author(resources, kind, entry) for entry in page[:size]]
    token = tokens.encode(purpose, shown[-1].number) if len(page) > size else ""
    return Revisions(entries=tuple(_revisions(kind, shown, last)), next_page_token=token, total=last)


def _revisions(kind: Kind, entries: list[HistoryEntry], last: int) -> Iterator[Revision]:
    for entry in entries:
        yield Revision(
            version=str(entry.number),
            event=entry.event,
            tag=entry.tag if kind.tagged else "",
            hash=entry.hash,
            actor=entry.actor,
            message=entry.message,
            created_at=entry.archived_at,
            current=entry.number == last,
        )


async def _with_author(resources: Resources, kind: Kind, entry: HistoryEntry) -> HistoryEntry:
    """Return the entry with its author, whom older databases know only from the document itself."""
    if entry.actor:
        return entry
    whole = await resources.store.archived(kind.name, entry.id, number=entry.number)
    return replace(entry, actor=kind.parse(wire_of(whole)).status.audit.spec_audit.updated_by.id)
