"""Get a resource by its id."""

from __future__ import annotations

from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources


async def get(resources: Resources, kind: Kind, id: str) -> bytes:
    """Return the resource, its secrets redacted. Raises: MissingError."""
    return await resources.fetch(kind, id)
