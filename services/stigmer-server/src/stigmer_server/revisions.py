"""The versions of a resource, as the store's history keeps them, and the names they go by.

The number of a history entry is the version's id, `metadata.version.id`, because every version is archived. Kinds
whose versions are tagged and hashed have them found by those, too.
"""

from __future__ import annotations

import re

from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import HistoryEntry

from stigmer_server.errors import MissingError
from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_HASH = re.compile(r"[0-9a-f]{64}")


async def find(resources: Resources, kind: Kind, id: str, version: str) -> HistoryEntry:
    """Return the version that the text names: by its id, or else by its hash or tag; the newest with a tag.

    Raises:
        MissingError: The resource has no such version.
    """
    for name in _names(kind, version):
        try:
            return await resources.store.archived(kind.name, id, **name)  # pyright: ignore[reportArgumentType]
        except NotFoundError:
            continue
    raise MissingError.of(f"{kind.title} version", f"{id}@{version[:100]}")


def _names(kind: Kind, version: str) -> list[dict[str, int | str]]:
    names: list[dict[str, int | str]] = []
    if _NUMBER.fullmatch(version):
        names.append({"number": int(version)})
    if kind.tagged:
        names.append({"hash" if _HASH.fullmatch(version) else "tag": version})
    return names


def wire_of(entry: HistoryEntry) -> bytes:
    """Return the encoding of the version, which this server always keeps."""
    if entry.wire is None:
        msg = f"version {entry.number} of {entry.kind} {entry.id} was archived without its encoding"
        raise ValueError(msg)
    return entry.wire
