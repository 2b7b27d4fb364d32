"""Get the archive of a skill, byte for byte as it was pushed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stigmer_server.resources import Resources


async def get_artifact(resources: Resources, key: str) -> bytes:
    """Return the archive. Raises: MissingError for a key that no push ever gave."""
    return await resources.artifacts.read(key)


def get_artifact_parts(resources: Resources, key: str) -> AsyncIterator[bytes]:
    """Yield the archive in pieces of at most 1 MiB. Raises: MissingError for a key that no push ever gave."""
    return resources.artifacts.parts(key)
