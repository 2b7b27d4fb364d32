"""Replace the spec and the metadata of a resource."""

from __future__ import annotations

from stigmer_server import drafts
from stigmer_server.errors import InvalidError, MissingError, RefusedError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit

_SHOWN = 3


async def update(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Replace the resource that the request names by id, or else by slug; its identity and status stay.

    Raises:
        InvalidError: The request names none, or breaks a rule.
        MissingError: There is no such resource, or one that it cannot do without is gone.
        RefusedError: Several resources have the slug, and nothing tells which one is meant.
        LostUpdateError: The request carries a version that is no longer the current one.
    """
    draft = await drafts.draft(kind, request, resources.call)

    def work(unit: Unit) -> Saved:
        stored = _named(kind, draft, unit)
        message, _ = drafts.renew(kind, draft, stored, unit)
        return unit.replace(kind, message, stored)

    return resources.answer(await resources.transact_on(kind, work))


def _named(kind: Kind, draft: Message, unit: Unit) -> Message:
    metadata = draft.metadata
    if metadata.id:
        return unit.require(kind.name, metadata.id)
    if not metadata.slug and not metadata.name:
        problem = "say which resource to update: metadata.id, metadata.slug or metadata.name"
        raise InvalidError.of("metadata", "metadata.id_or_slug.required", problem)
    drafts.resolve_slug(kind, draft)
    found = unit.named(kind.name, org=metadata.org or None, slug=metadata.slug)
    if not found:
        raise MissingError.of(kind.title, f"{metadata.org}/{metadata.slug}".removeprefix("/"))
    if len(found) > 1:
        named = ", ".join(f"{each.metadata.id} of organization {each.metadata.org!r}" for each in found[:_SHOWN])
        msg = f"several {kind.title} resources have the slug {metadata.slug!r}: {named}; say which in metadata.id"
        raise RefusedError(msg)
    return found[0]
