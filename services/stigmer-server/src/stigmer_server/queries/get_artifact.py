"""Get the archive of a skill, byte for byte as it was pushed."""

from __future__ import annotations

from stigmer_server.resources import Resources


async def get_artifact(resources: Resources, key: str) -> bytes:
    """Return the archive. Raises: MissingError for a key that no push ever gave."""
    return await resources.artifacts.read(key)
