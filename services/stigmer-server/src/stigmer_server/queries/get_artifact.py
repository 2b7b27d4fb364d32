"""Get the archive of a skill, byte for byte as it was pushed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stigmer_sqlite.errors import NotFoundError

from stigmer_server.artifacts import ARCHIVES
from stigmer_server.errors import MissingError
from stigmer_server.queries.all_of import all_of
from stigmer_server.resources import Resources


async def get_artifact(resources: Resources, key: str) -> bytes:
    """Return the archive. Raises: MissingError for a key that no push that the caller may see ever gave."""
    await _check_seen(resources, key)
    return await resources.artifacts.read(key)


async def get_artifact_parts(resources: Resources, key: str) -> AsyncIterator[bytes]:
    """Yield the archive in pieces of at most 1 MiB. Raises: as `get_artifact`."""
    await _check_seen(resources, key)
    async for part in resources.artifacts.parts(key):
        yield part


async def _check_seen(resources: Resources, key: str) -> None:
    """Make sure that the archive is one of a skill that the caller may see: the same bytes may be several skills'."""
    if resources.call.caller.org is None:
        return
    hash = ARCHIVES.hash_of(key)
    for record in await all_of(resources, resources.kinds["skill"]) if hash else ():
        try:
            await resources.store.archived("skill", record.id, hash=hash)
        except NotFoundError:
            continue
        return
    raise MissingError.of("Artifact", key)
