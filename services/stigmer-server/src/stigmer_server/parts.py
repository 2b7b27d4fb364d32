"""Resources of which arrays are stored apart: how they are divided, put together again, and read in part.

A long execution is reported on again and again, and each report is about a task or two. So once an execution is
large, the arrays that its kind names are stored element by element, and a report costs what it is about.

The encoding of a part is that of the message around the array (the status) with nothing in it but the element.
Encoded messages are merged by being joined, so the status is the rest of it followed by its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from stigmer_protos import descriptors
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import Encoding, Part, Reader, Record

from stigmer_server import messages
from stigmer_server.encoding import delimited, extended
from stigmer_server.kinds.port import Apart, Kind
from stigmer_server.messages import Message

SPLIT_BYTES = 8 * 1024
"""From which encoded size on a resource is divided; below it, one piece costs less than several."""


Stored = Mapping[tuple[str, int], bytes | None]
"""Path and position of each stored part to its encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """A resource as the store keeps it."""

    head: Message
    """The resource without the arrays that are kept apart."""
    lengths: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of those arrays, by path."""
    parts: tuple[Part, ...] = ()
    """Their elements that are to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A resource with as much of its arrays as a report is about."""

    message: Message
    head: Record
    loaded: Mapping[str, Sequence[int]]
    """Path of each array of which elements are in the message, to which ones those are; what follows them is new."""
    replaced: frozenset[str]
    """Paths of the arrays that are in the message as they shall be. All others have nothing in it, and stay."""


def whole(record: Record) -> bytes:
    """Return the encoding of a whole resource."""
    wire = head(record)
    if not record.lengths:
        return wire
    parts = b"".join(part.wire or b"" for part in record.parts)
    return extended(wire, _owner_number(record.kind, next(iter(record.lengths))), parts)


def joined(kind: str, id: str, encoding: Encoding) -> bytes:
    """Return the encoding of a whole resource that was read in its encoding."""
    if encoding.wire is None or encoding.parts is None:
        raise _not_encoded(kind, id)
    if not encoding.lengths:
        return encoding.wire
    return extended(encoding.wire, _owner_number(kind, next(iter(encoding.lengths))), encoding.parts)


def head(record: Record) -> bytes:
    """Return the encoding of a resource without what is stored apart, for whoever wants nothing of that."""
    if record.wire is None:
        raise _not_encoded(record.kind, record.id)
    return record.wire


def _not_encoded(kind: str, id: str) -> ValueError:
    return ValueError(f"{kind} {id} was stored without its encoding")


def divided(kind: Kind, message: Message, reader: Reader) -> Divided:
    """Divide a whole resource, if it is large; parts that are stored as they are already are not written again."""
    if not kind.apart or message.ByteSize() < SPLIT_BYTES:
        return Divided(head=message)
    stored = _stored(kind, reader, message.metadata.id)
    lengths: dict[str, int] = {}
    parts: list[Part] = []
    for apart in kind.apart:
        path = _json_path(kind.name, apart.path)
        elements: Sequence[Message] = messages.at_path(message, apart.path)
        if elements:
            lengths[path] = len(elements)
            parts += _changed(kind, apart, enumerate(elements), stored)
    return Divided(head=_head(kind, message), lengths=lengths, parts=tuple(parts))


def divided_excerpt(kind: Kind, excerpt: Excerpt, reader: Reader) -> Divided:
    """Divide an excerpt into which a report was merged."""
    stored: Stored = _stored(kind, reader, excerpt.head.id) if excerpt.replaced else {}
    lengths = dict(excerpt.head.lengths)
    parts: list[Part] = []
    for apart in kind.apart:
        path = _json_path(kind.name, apart.path)
        elements: Sequence[Message] = messages.at_path(excerpt.message, apart.path)
        if path in excerpt.replaced:
            lengths[path] = len(elements)
            parts += _changed(kind, apart, enumerate(elements), stored)
        elif elements:
            loaded, length = excerpt.loaded.get(path, ()), lengths.get(path, 0)
            lengths[path] = length + len(elements) - len(loaded)
            positions = (*loaded, *range(length, lengths[path]))
            parts += _changed(kind, apart, zip(positions, elements, strict=True), {})
    return Divided(head=_head(kind, excerpt.message), lengths=lengths, parts=tuple(parts))


def excerpt(kind: Kind, reader: Reader, id: str, report: Message) -> Excerpt | None:
    """Return an execution with what a reported status is about; None where all of it has to be read.

    That is where it is not divided, where the report ends it (what is still open in it has to be closed then), and
    where the report does not say by a key which elements it is about.

    Raises:
        NotFoundError: The store has no such resource.
    """
    record = reader.head(kind.name, id)
    if not record.lengths or _ends(kind, report):
        return None
    message = kind.parse(head(record))
    loaded: dict[str, Sequence[int]] = {}
    replaced: set[str] = set()
    for apart in kind.apart:
        path, elements = _json_path(kind.name, apart.path), getattr(report, apart.name)
        if not elements:
            continue
        if not apart.key:
            replaced.add(path)
            continue
        keys = [getattr(element, apart.key) for element in elements]
        if not all(keys):
            return None
        found = reader.parts(kind.name, id, path=path, keys=keys)
        loaded[path] = [part.position for part in found]
        getattr(message, apart.owner).MergeFromString(b"".join(part.wire or b"" for part in found))
    return Excerpt(message=message, head=record, loaded=loaded, replaced=frozenset(replaced))


def _stored(kind: Kind, reader: Reader, id: str) -> Stored:
    try:
        record = reader.get(kind.name, id)
    except NotFoundError:
        return {}
    return {(part.path, part.position): part.wire for part in record.parts}


def _ends(kind: Kind, report: Message) -> bool:
    message = kind.type()
    message.status.phase = report.phase
    return kind.is_finished(message)


def _changed(kind: Kind, apart: Apart, elements: Iterable[tuple[int, Message]], stored: Stored) -> Iterator[Part]:
    """Yield the parts of those elements that differ from what is stored."""
    path, number = _json_path(kind.name, apart.path), _array_number(kind.name, apart.path)
    for position, element in elements:
        # Deterministic, so that what did not change is seen not to have.
        wire = delimited(number, element.SerializeToString(deterministic=True))
        if stored.get((path, position)) != wire:
            key = getattr(element, apart.key) if apart.key else ""
            yield Part(path=path, position=position, key=key, data=messages.to_json(element), wire=wire)


def _head(kind: Kind, message: Message) -> Message:
    made = messages.copied(message)
    for apart in kind.apart:
        getattr(made, apart.owner).ClearField(apart.name)
    return made


def _descriptor(kind: str) -> Any:
    return descriptors.message_type(descriptors.kind_by_enum_name(kind).message).DESCRIPTOR


@cache
def _json_path(kind: str, path: str) -> str:
    owner, name = path.split(".")
    found = _descriptor(kind).fields_by_name[owner]
    return f"$.{found.json_name}.{found.message_type.fields_by_name[name].json_name}"


@cache
def _array_number(kind: str, path: str) -> int:
    """Return the number of the array's field in the message around it."""
    owner, name = path.split(".")
    return _descriptor(kind).fields_by_name[owner].message_type.fields_by_name[name].number


@cache
def _owner_number(kind: str, json_path: str) -> int:
    """Return the number of the resource's field that the array is in."""
    name = json_path.split(".")[1]
    return next(field.number for field in _descriptor(kind).fields if field.json_name == name)
