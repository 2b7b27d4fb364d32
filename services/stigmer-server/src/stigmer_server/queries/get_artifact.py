"""Get the archive of a skill, byte for byte as it was pushed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.paging import records
from stigmer_sqlite.port import Query, Reader

from stigmer_server.artifacts import ARCHIVES
from stigmer_server.errors import MissingError
from stigmer_server.resources import Resources

_PAGE = 50


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
    caller = resources.call.caller
    if caller.org is None:
        return
    hash = ARCHIVES.hash_of(key)
    skills = Query(kind="skill", org_id=caller.among("", shared=resources.kinds["skill"].shared), limit=_PAGE)
    if not hash or not await resources.store.read(lambda reader: _has(reader, skills, hash)):
        raise MissingError.of("Artifact", key)


def _has(reader: Reader, skills: Query, hash: str) -> bool:
    """Tell whether one of the skills has, or had, the archive; their texts are long, so few are read at a time."""
    return any(_was_pushed(reader, record.id, hash) for record in records(reader, skills))


def _was_pushed(reader: Reader, skill: str, hash: str) -> bool:
    try:
        reader.archived("skill", skill, hash=hash)
    except NotFoundError:
        return False
    return True
