"""Create a resource, or update the one that already has its slug."""

from __future__ import annotations

from stigmer_server import drafts
from stigmer_server.errors import TakenError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.onlooker import WouldWrite
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit


async def apply(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Make the resource what the request says, in one transaction; of two at once, one creates and one updates.

    Applying what is already there writes nothing, except that a missing default instance is made again. The answer's
    audit says which it was: created, updated or unchanged.

    Raises:
        TakenError: The kind's resources never change, and this one exists; or the request carries the id of one
            resource and the slug of another.
        InvalidError, MissingError, RefusedError, LostUpdateError: As create and update.
    """
    draft = await drafts.draft(kind, request, resources.call)
    drafts.resolve_slug(kind, draft)

    def work(unit: Unit) -> Saved:
        stored = _existing(kind, draft, unit)
        if stored is None:
            return drafts.insert(kind, draft, unit)
        if kind.applied_once:
            raise drafts.already_exists(kind, stored)
        message, changed = drafts.renew(kind, draft, stored, unit)
        if changed:
            return unit.replace(kind, message, stored)
        if message.status != stored.status:
            message.metadata.CopyFrom(stored.metadata)
            unit.replace_status(kind, message)
            return unit.unchanged(kind, message)
        return unit.unchanged(kind, stored)

    # Mostly there is nothing to do, and that can be seen without a transaction.
    saved = await resources.look(lambda unit: _unchanged(kind, draft, unit))
    return resources.answer(saved or await resources.transact_on(kind, work))


def _unchanged(kind: Kind, draft: Message, unit: Unit) -> Saved:
    """Return the answer if the resource is as it should be. Raises: WouldWrite."""
    stored = _existing(kind, draft, unit)
    if stored is None or kind.applied_once:
        raise WouldWrite
    message, changed = drafts.renew(kind, draft, stored, unit)
    if changed or message.status != stored.status:
        raise WouldWrite
    return unit.unchanged(kind, stored)


def _existing(kind: Kind, draft: Message, unit: Unit) -> Message | None:
    """Return the resource with the draft's slug, or else with its id."""
    metadata = draft.metadata
    stored = unit.find(kind.name, org=metadata.org, slug=metadata.slug)
    if stored is None:
        return unit.require(kind.name, metadata.id) if unit.exists(kind.name, metadata.id) else None
    if metadata.id and metadata.id != stored.metadata.id:
        msg = f"{kind.title} with slug {metadata.slug!r} already exists under another id ({stored.metadata.id})"
        raise TakenError(msg)
    return stored
