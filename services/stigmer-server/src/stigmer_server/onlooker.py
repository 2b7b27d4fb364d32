"""A transaction that only reads: whatever would write ends it, so that the same work can be done in one that writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from stigmer_sqlite.port import Archive, Encoding, HistoryEntry, Page, Part, Query, Reader, Record


class WouldWrite(Exception):  # noqa: N818 - no fault, but the end of an attempt
    """The work has something to write."""


class Onlooker:
    """See `stigmer_sqlite.Transaction`; its writing verbs raise WouldWrite."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get(self, kind: str, id: str) -> Record:
        """See Reader."""
        return self._reader.get(kind, id)

    def head(self, kind: str, id: str) -> Record:
        """See Reader."""
        return self._reader.head(kind, id)

    def encoding(self, kind: str, id: str) -> Encoding:
        """See Reader."""
        return self._reader.encoding(kind, id)

    def parts(self, kind: str, id: str, *, path: str, keys: Sequence[str]) -> tuple[Part, ...]:
        """See Reader."""
        return self._reader.parts(kind, id, path=path, keys=keys)

    def find(self, kind: str, *, org_id: str | None, slug: str) -> Record | None:
        """See Reader."""
        return self._reader.find(kind, org_id=org_id, slug=slug)

    def list(self, query: Query) -> Page:
        """See Reader."""
        return self._reader.list(query)

    def archived(
        self,
        kind: str,
        id: str,
        *,
        version: int | None = None,
        number: int | None = None,
        tag: str = "",
        hash: str = "",
    ) -> HistoryEntry:
        """See Reader."""
        return self._reader.archived(kind, id, version=version, number=number, tag=tag, hash=hash)

    def archived_hashes(self) -> frozenset[str]:
        """See Reader."""
        return self._reader.archived_hashes()

    def save(self, record: Record, *, expected: int | None = None, archive: Archive | None = None) -> NoReturn:
        """Raises: WouldWrite."""
        raise WouldWrite

    def delete(self, kind: str, id: str, *, expected: int | None = None) -> NoReturn:
        """Raises: WouldWrite."""
        raise WouldWrite

    def delete_kind(self, kind: str) -> NoReturn:
        """Raises: WouldWrite."""
        raise WouldWrite
