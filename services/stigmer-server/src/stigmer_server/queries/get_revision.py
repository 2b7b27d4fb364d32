"""Get a resource as it was in one of its versions."""

from __future__ import annotations

from stigmer_server import revisions
from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources


async def get_revision(resources: Resources, kind: Kind, id: str, version: str) -> bytes:
    """Return the resource as the version made it, its secrets redacted; its status is that of the same moment.

    Args:
        version: The id of a version, or for kinds that have them a tag or hash.

    Raises:
        MissingError: There is no such resource, or it has no such version.
    """
    await resources.record(kind, id)
    entry = await revisions.find(resources, kind, id, version)
    return resources.redacted(kind, revisions.wire_of(entry))
