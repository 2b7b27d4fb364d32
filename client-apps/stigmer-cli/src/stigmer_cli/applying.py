"""Applying manifests, and telling the truth about what that did: the server decides, and its audit says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from stigmer_cli.changes import Change, change_of
from stigmer_cli.manifests import Manifest
from stigmer_cli.resources import Message, Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One manifest, applied or only tried."""

    manifest: Manifest
    change: Change
    resource: Message
    """What the server holds now, or would hold."""
    is_kept: bool
    """False after a dry run."""

    @property
    def id(self) -> str:
        """The resource's id, "" while it has none."""
        return self.resource.metadata.id if self.is_kept or self.change is not Change.CREATED else ""


async def apply_each(
    resources: Resources, manifests: Sequence[Manifest], *, dry_run: bool = False
) -> AsyncIterator[Outcome]:
    """Apply every manifest in order and yield what that did; the first failure ends it, and what was applied stays.

    A dry run does all of it, checks and defaults included, and keeps nothing.
    """
    for manifest in manifests:
        resource = await resources.apply(manifest.kind, manifest.message, dry_run=dry_run)
        yield Outcome(manifest=manifest, change=change_of(resource), resource=resource, is_kept=not dry_run)


async def apply_all(resources: Resources, manifests: Sequence[Manifest]) -> list[Outcome]:
    """Apply every manifest in order; the first failure ends it, and what was applied before stays."""
    return [outcome async for outcome in apply_each(resources, manifests)]
