"""Applying manifests, and telling the truth about what that did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from google.protobuf.message import Message as ProtobufMessage

from stigmer_cli.manifests import Manifest
from stigmer_cli.references import Reference
from stigmer_cli.resources import Message, Resources


class Change(Enum):
    """What applying a manifest did to the resource, or would do."""

    CREATED = "Created"
    UPDATED = "Updated"
    UNCHANGED = "Unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One manifest, applied or only compared."""

    manifest: Manifest
    change: Change
    resource: Message | None
    """What the server holds now; None for what a dry run would create."""

    @property
    def id(self) -> str:
        """The resource's id, "" while it has none."""
        return self.resource.metadata.id if self.resource is not None else ""


async def apply_all(resources: Resources, manifests: Sequence[Manifest]) -> list[Outcome]:
    """Apply every manifest in order; the first failure ends it, and what was applied before stays."""
    return [await _apply(resources, manifest) for manifest in manifests]


async def compare_all(resources: Resources, manifests: Sequence[Manifest]) -> list[Outcome]:
    """Say what `apply_all` would do, and change nothing."""
    return [await _compare(resources, manifest) for manifest in manifests]


async def _apply(resources: Resources, manifest: Manifest) -> Outcome:
    before = await _find(resources, manifest)
    after = await resources.apply(manifest.kind, manifest.message)
    if before is None:
        change = Change.CREATED
    else:
        change = Change.UNCHANGED if _written(before) == _written(after) else Change.UPDATED
    return Outcome(manifest=manifest, change=change, resource=after)


async def _compare(resources: Resources, manifest: Manifest) -> Outcome:
    before = await _find(resources, manifest)
    if before is None:
        return Outcome(manifest=manifest, change=Change.CREATED, resource=None)
    same = _is_within(manifest.message.spec, before.spec) and all(
        getattr(manifest.message.metadata, field) == getattr(before.metadata, field)
        for field in ("name", "owner_scope", "labels", "annotations", "tags")
    )
    return Outcome(manifest=manifest, change=Change.UNCHANGED if same else Change.UPDATED, resource=before)


async def _find(resources: Resources, manifest: Manifest) -> Message | None:
    if not manifest.slug:
        return None
    return await resources.find(Reference(kind=manifest.kind, org=manifest.org, slug=manifest.slug))


def _written(resource: Message) -> tuple[int, int]:
    """Return when the resource's own part was last written; the server leaves it alone when nothing changes."""
    moment = resource.status.audit.spec_audit.updated_at
    return moment.seconds, moment.nanos


def _is_within(wanted: ProtobufMessage, held: ProtobufMessage) -> bool:
    """Whether everything that is wanted is held as wanted, no matter what the server filled in besides."""
    merged = type(held)()
    merged.CopyFrom(held)
    for field, _ in wanted.ListFields():
        merged.ClearField(field.name)
    merged.MergeFrom(wanted)
    return merged == held
