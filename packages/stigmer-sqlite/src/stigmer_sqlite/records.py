"""What every store asks of a record before it takes it, and how it searches and stamps it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from stigmer_sqlite.errors import InvalidQueryError, InvalidRecordError, StoreError
from stigmer_sqlite.kinds import JsonPath
from stigmer_sqlite.port import Archive, Record

_TICK = timedelta(microseconds=1)


def flaw(text: str) -> str:
    """Say what keeps the text from being stored exactly; empty when nothing does."""
    if "\0" in text:
        return "contains NUL"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains a lone surrogate"
    return ""


def check_record(record: Record, archive: Archive | None) -> None:
    """Refuse what no store can keep. Whether `data` is JSON is the store's to find out. Raises: InvalidRecordError."""
    if not record.id:
        raise InvalidRecordError(f"a {record.kind} needs an id")
    if not _is_plain(record):
        for name in ("id", "org_id", "project_id", "slug", "data"):
            _refuse(record, name, getattr(record, name))
    for key, value in record.labels.items():
        _refuse(record, "label key", key)
        _refuse(record, f"label {key!r}", value)
    if archive is not None:
        if flaw("".join((archive.event, archive.tag, archive.hash, archive.actor, archive.message))):
            for name in ("event", "tag", "hash", "actor", "message"):
                _refuse(record, f"archive {name}", getattr(archive, name))
        _refuse(record, "archive data", archive.data or "")
        if record.lengths and archive.data is None:
            raise _invalid(record, "keeps arrays apart, so its archive needs the whole document")


def _is_plain(record: Record) -> bool:
    """Tell, at a glance, that all its texts can be stored exactly."""
    names = "".join((record.id, record.org_id, record.project_id, record.slug))
    return not flaw(names) and not flaw(record.data)


def check_parts(record: Record, former: Mapping[str, int]) -> None:
    """Refuse parts that no array of the record has, and arrays of which elements would be missing.

    `former`: the lengths of the arrays that are stored now. Raises: InvalidRecordError.
    """
    given: dict[str, set[int]] = {path: set() for path in record.lengths}
    for path in record.lengths:
        if not all(isinstance(step, str) for step in _steps(record, path)):
            raise _invalid(record, f"cannot keep {path!r} apart: an element of an array has no place of its own")
    for part in record.parts:
        if not 0 <= part.position < record.lengths.get(part.path, 0):
            raise _invalid(record, f"has no element {part.position} at {part.path!r}")
        given[part.path].add(part.position)
        for name, text in (("key", part.key), ("data", part.data)):
            _refuse(record, f"{name} of element {part.position} at {part.path!r}", text)
    for path, length in record.lengths.items():
        if length < 0 or not given[path].issuperset(range(former.get(path, 0), length)):
            raise _invalid(record, f"needs every element at {path!r} up to its length {length}")


def _steps(record: Record, path: str) -> tuple[str | int, ...]:
    try:
        return JsonPath.parse(path).steps
    except StoreError as error:
        raise _invalid(record, f"cannot keep {path!r} apart: {error}") from error


def check_text(name: str, text: str, error: type[StoreError] = InvalidQueryError) -> None:
    """Refuse text that no record can have."""
    if problem := flaw(text):
        raise error(f"{name} {problem}")


def _refuse(record: Record, name: str, text: str) -> None:
    if problem := flaw(text):
        raise InvalidRecordError(f"{name} of {record.kind} {record.id[:200]!r} {problem}")


def _invalid(record: Record, problem: str) -> InvalidRecordError:
    return InvalidRecordError(f"{record.kind} {record.id[:200]!r} {problem}")


def search_text(slug: str, name: object, id: str) -> str:
    """Return what `Query.text` is looked for in: the slug, the document's name and the id, case folded."""
    return (f"{slug}\n{name}\n{id}" if isinstance(name, str) else f"{slug}\n{id}").casefold()


class Clock:
    """UTC times to the microsecond that never repeat nor go back, whatever the system's clock does."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time, later than any returned before."""
        self._last = max(datetime.now(UTC), self._last + _TICK)
        return self._last


def archive_filters(*, version: int | None, number: int | None, tag: str, hash: str) -> dict[str, str | int]:
    """Return which of the ways to name a history entry were given. Raises: InvalidQueryError when none was."""
    given: dict[str, str | int | None] = {
        "version": version,
        "number": number,
        "tag": tag or None,
        "hash": hash or None,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    if not filters:
        raise InvalidQueryError("say which history entry: by version, number, tag or hash")
    return filters


def saved_as(record: Record, *, version: int, now: datetime, position: int) -> Record:
    """Return the record as the store keeps it: its own labels, the store's version, time and position."""
    return Record(
        kind=record.kind,
        id=record.id,
        org_id=record.org_id,
        project_id=record.project_id,
        slug=record.slug,
        data=record.data,
        wire=record.wire,
        labels=dict(record.labels),
        lengths=dict(record.lengths),
        parts=record.parts,
        version=version,
        updated_at=now,
        position=position,
    )


def check_compaction(keep: int, limit: int | None) -> None:
    """Refuse to keep or to drop a negative number of changes. Raises: InvalidQueryError."""
    if keep < 0:
        raise InvalidQueryError(f"cannot keep {keep} changes")
    if limit is not None and limit < 0:
        raise InvalidQueryError(f"cannot drop {limit} changes")
