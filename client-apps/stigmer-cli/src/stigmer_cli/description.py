"""All that there is to know of one resource, gathered from the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli.listing import is_execution
from stigmer_cli.messages import from_json, to_plain
from stigmer_cli.references import Reference
from stigmer_cli.resources import Listing, Message, Resources
from stigmer_cli.revisions import Revisions

SHOWN = 5
"""How many of each thing are told of."""
_CHILDREN = {
    "agent": ("agent_instance", "session", "agent_execution"),
    "agent_instance": ("session", "agent_execution"),
    "session": ("agent_execution",),
    "workflow": ("workflow_instance", "workflow_execution"),
    "workflow_instance": ("workflow_execution",),
}
"""What belongs to a resource of a kind, near or far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """The resources of one kind that belong to another."""

    kind: Kind
    newest: tuple[dict[str, Any], ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One resource and what is around it."""

    kind: Kind
    message: Message
    children: tuple[Children, ...]
    dependents: tuple[Message, ...]
    """What would be deleted with it if that were forced, itself left out."""
    revisions: tuple[Message, ...]
    """The newest versions; none for a kind that keeps none."""

    @property
    def resource(self) -> dict[str, Any]:
        """The resource as plain data."""
        return to_plain(self.message)


async def describe(resources: Resources, reference: Reference) -> Description:
    """Gather what there is to know of a resource.

    Raises:
        NotFoundError: There is none.
    """
    message = await resources.get(reference)
    kind, identifier = reference.kind, message.metadata.id
    children = [
        await _children(resources, descriptors.kind_by_enum_name(name), identifier)
        for name in _CHILDREN.get(kind.enum_name, ())
    ]
    return Description(
        kind=kind,
        message=message,
        children=tuple(children),
        dependents=await _dependents(resources, kind, identifier),
        # A run is written once, so that it has no versions worth telling of.
        revisions=() if is_execution(kind) else await _revisions(resources, kind, identifier),
    )


async def _children(resources: Resources, kind: Kind, identifier: str) -> Children:
    entries, total = await resources.newest(Listing(kind=kind, parent_id=identifier), SHOWN)
    return Children(kind=kind, newest=tuple(to_plain(from_json(kind, entry)) for entry in entries), total=total)


async def _dependents(resources: Resources, kind: Kind, identifier: str) -> tuple[Message, ...]:
    from stigmer_grpc.errors import PermissionDeniedError

    try:
        entries = (await resources.delete(kind, identifier, force=True, dry_run=True)).entries
    except PermissionDeniedError:
        # Whoever may look at a resource but not delete it is not told what a deletion would take with it.
        return ()
    return tuple(entry for entry in entries if entry.id != identifier)


async def _revisions(resources: Resources, kind: Kind, identifier: str) -> tuple[Message, ...]:
    found: list[Message] = []
    async for revision in Revisions(resources.channel).list(kind, identifier):
        found.append(revision)
        if len(found) == SHOWN:
            break
    return tuple(found)
