"""Push a skill: an archive with a SKILL.md at its root becomes the skill's newest version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stigmer_server import archives, drafts, limits
from stigmer_server.artifacts import ARCHIVES, Incoming
from stigmer_server.errors import InvalidError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, copied
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit, assign_id

_PUSHED = "pushed"
_READY = 2
"""SkillState.SKILL_STATE_READY."""


async def push(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Store the archive by the hash of its bytes and make it the current version of the skill with this name.

    Versions pushed before stay, and are found by their hash, or by their tag until another version takes it. Pushing
    what is the current version already, with the same tag, writes nothing.

    Raises:
        InvalidError: The name makes no slug, or the archive is unsafe, too large, or has no SKILL.md at its root.
    """
    async with resources.artifacts.receiving() as incoming:
        await incoming.write(request.artifact)
        return await _push(resources, kind, request, incoming)


async def push_parts(resources: Resources, kind: Kind, parts: AsyncIterator[Message]) -> bytes:
    """Do as `push` with an archive that comes in parts: a header, then the bytes in order.

    Raises:
        InvalidError: As `push`; or the header is not the first part and the only one, or names another hash.
    """
    header: Message | None = None
    async with resources.artifacts.receiving() as incoming:
        async for part in parts:
            if (part.WhichOneof("part") == "header") != (header is None):
                problem = "send one header, as the first part, and after it nothing but chunks"
                raise InvalidError.of("header", "skill.parts.order", problem)
            if header is None:
                header = part.header
            else:
                await incoming.write(part.chunk)
        if header is None:
            raise InvalidError.of("header", "skill.parts.header", "no part came; send a header and then the archive")
        if header.sha256 and header.sha256 != incoming.hash:
            problem = f"is {header.sha256}, and the hash of what came is {incoming.hash}; send the archive again"
            raise InvalidError.of("header.sha256", "skill.parts.sha256", problem)
        return await _push(resources, kind, header, incoming)


async def _push(resources: Resources, kind: Kind, header: Message, incoming: Incoming) -> bytes:
    draft = _draft(kind, header, incoming.hash)
    drafts.place(draft, resources.call)
    draft.spec.skill_md = await asyncio.to_thread(archives.read_skill, incoming.file)
    drafts.check_rules(draft)
    drafts.resolve_slug(kind, draft)
    if not resources.call.dry_run:
        await incoming.keep()
    saved = await resources.transact(lambda unit: _store(kind, draft, unit))
    return resources.answer(saved)


def _draft(kind: Kind, header: Message, hash: str) -> Message:
    draft = kind.type()
    draft.api_version = kind.described.api_version
    draft.kind = kind.title
    draft.metadata.name = header.name
    draft.metadata.org = header.org
    draft.metadata.owner_scope = header.scope
    draft.spec.tag = header.tag
    draft.status.version_hash = hash
    draft.status.artifact_storage_key = ARCHIVES.key_of(hash)
    draft.status.state = _READY
    limits.check_metadata(kind, draft)
    return draft


def _store(kind: Kind, draft: Message, unit: Unit) -> Saved:
    message = copied(draft)
    metadata, status = message.metadata, message.status
    stored = unit.find(kind.name, org=metadata.org, slug=metadata.slug)
    if stored is None:
        unit.require_organization(metadata.org)
        assign_id(kind, message)
        return unit.insert(kind, message, event=_PUSHED)
    unit.require_writable(kind, stored)
    if _is_current(stored, message):
        return unit.unchanged(kind, stored)
    metadata.id = stored.metadata.id
    for name in ("labels", "annotations"):
        getattr(metadata, name).MergeFrom(getattr(stored.metadata, name))
    metadata.tags.extend(stored.metadata.tags)
    status.audit.CopyFrom(stored.status.audit)
    return unit.replace(kind, message, stored, event=_PUSHED)


def _is_current(stored: Message, pushed: Message) -> bool:
    """Tell whether the pushed version is what the skill already is."""
    return (
        stored.status.version_hash == pushed.status.version_hash
        and stored.spec == pushed.spec
        and stored.metadata.name == pushed.metadata.name
        and stored.metadata.owner_scope == pushed.metadata.owner_scope
    )
