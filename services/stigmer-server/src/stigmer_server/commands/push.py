"""Push a skill: an archive with a SKILL.md at its root becomes the skill's newest version."""

from __future__ import annotations

import asyncio

from stigmer_sqlite.port import Archive

from stigmer_server import archives, drafts
from stigmer_server.artifacts import digest
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, copied
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit, assign_id

_READY = 2
"""SkillState.SKILL_STATE_READY."""


async def push(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Store the archive by the hash of its bytes and make it the current version of the skill with this name.

    Versions pushed before stay, and are found by their hash, or by their tag until another version takes it.

    Raises:
        InvalidError: The name makes no slug, or the archive is unsafe, too large, or has no SKILL.md at its root.
    """
    text = await asyncio.to_thread(archives.read_skill, request.artifact)
    draft = _draft(kind, request, text)
    drafts.resolve_slug(kind, draft)
    draft.status.artifact_storage_key = await resources.artifacts.store(request.artifact)
    saved = await resources.transact(lambda unit: _store(kind, draft, unit))
    return resources.answer(saved)


def _draft(kind: Kind, request: Message, text: str) -> Message:
    draft = kind.type()
    draft.api_version = kind.described.api_version
    draft.kind = kind.title
    draft.metadata.name = request.name
    draft.metadata.org = request.org
    draft.metadata.owner_scope = request.scope
    draft.spec.skill_md = text
    draft.spec.tag = request.tag
    draft.status.version_hash = digest(request.artifact)
    draft.status.state = _READY
    drafts.check_rules(draft)
    return draft


def _store(kind: Kind, draft: Message, unit: Unit) -> Saved:
    message = copied(draft)
    metadata, status = message.metadata, message.status
    archive = Archive(event="pushed", tag=message.spec.tag, hash=status.version_hash)
    stored = unit.find(kind.name, org=metadata.org, slug=metadata.slug)
    if stored is None:
        assign_id(kind, message)
        return unit.insert(kind, message, archive=archive)
    metadata.id = stored.metadata.id
    for name in ("labels", "annotations"):
        getattr(metadata, name).MergeFrom(getattr(stored.metadata, name))
    metadata.tags.extend(stored.metadata.tags)
    status.audit.CopyFrom(stored.status.audit)
    return unit.replace(kind, message, stored, archive=archive)
