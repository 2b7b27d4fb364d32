"""How much a resource may be called, labelled and nested: limits that the contract leaves to the server.

They are far beyond what people need, and exist so that no name, label or nesting can harm a reader. Every broken
limit is told at once, with its field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

from stigmer_server.errors import InvalidError, TooLargeError, Violation
from stigmer_server.kinds.port import DEFAULT_SUFFIX, Kind
from stigmer_server.labels import NAMES, TAG
from stigmer_server.messages import Message

NAME = 256
"""Characters of a name, a slug, an organization, a tag, or the key of a label or an annotation."""
LABEL = 1024
"""Characters of a label's value."""
LABELS = 128
"""Labels, and tags, and annotations."""
ANNOTATIONS_BYTES = 256 * 1024
"""Bytes of all annotations together, keys and values."""
MESSAGE = 4096
"""Characters of what is said about a version."""
DOCUMENT_BYTES = 10 * 2**20 - 64 * 2**10
"""Bytes of an encoded resource: so many that it can still be sent with what the server adds to it."""

_SHOWN = 40
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNPRINTABLE_BUT_TAB = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_NUL = re.compile("\0")


def check_metadata(kind: Kind, message: Message) -> None:
    """Hold the metadata that a caller sent against the limits. Raises: InvalidError, naming all that are broken."""
    if _is_plain(message.metadata):
        return
    violations = list(_violations(kind, message.metadata))
    if violations:
        raise InvalidError("; ".join(f"{found.field}: {found.message}" for found in violations[:5]), violations)


def _is_plain(metadata: Message) -> bool:
    """Tell, at a glance, that no limit can be broken: the texts are short and printable, and nothing else is there."""
    texts = f"{metadata.name}{metadata.slug}{metadata.org}{metadata.version.message}"
    few = not (metadata.tags or metadata.labels or metadata.annotations)
    return few and len(texts) <= NAME - len(DEFAULT_SUFFIX) and texts.isprintable()


def check_size(kind: Kind, message: Message) -> None:
    """Hold a resource that is to be stored against the limit of its size. Raises: TooLargeError."""
    size = message.ByteSize()
    if size > DOCUMENT_BYTES:
        problem = f"{kind.title} {message.metadata.slug or message.metadata.name!r} comes to {size} bytes"
        raise TooLargeError(f"{problem}, and {DOCUMENT_BYTES} are the most that can be stored")


def _violations(kind: Kind, metadata: Message) -> Iterator[Violation]:
    # A default instance is called like its owner and is a resource like any other, so it must fit, too.
    longest = NAME - (len(DEFAULT_SUFFIX) if kind.default_child else 0)
    yield from _text("metadata.name", metadata.name, longest, _UNPRINTABLE_BUT_TAB)
    yield from _text("metadata.slug", metadata.slug, longest, _UNPRINTABLE)
    yield from _text("metadata.org", metadata.org, NAME, _UNPRINTABLE)
    yield from _text("metadata.version.message", metadata.version.message, MESSAGE, _NUL)
    yield from _count("metadata.tags", len(metadata.tags))
    for index, tag in enumerate(metadata.tags):
        yield from _text(f"metadata.tags[{index}]", tag, NAME, _UNPRINTABLE, least=1)
    yield from _entries(
        "metadata.labels", metadata.labels, lambda field, value: _text(field, value, LABEL, _UNPRINTABLE)
    )
    for key in sorted(metadata.labels):
        if key.startswith((TAG, NAMES)):
            message = f"labels that begin with {TAG} and {NAMES} are the server's own"
            yield Violation(field=_place("metadata.labels", key), rule="metadata.labels.own", message=message)
    yield from _entries(
        "metadata.annotations", metadata.annotations, lambda field, value: _text(field, value, None, _NUL)
    )
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.annotations.items())
    if size > ANNOTATIONS_BYTES:
        message = f"come to {size} bytes together, and {ANNOTATIONS_BYTES} are the most"
        yield Violation(field="metadata.annotations", rule="metadata.annotations.size", message=message)


def _entries(
    field: str, values: Mapping[str, str], check: Callable[[str, str], Iterator[Violation]]
) -> Iterator[Violation]:
    yield from _count(field, len(values))
    for key in sorted(values):
        place = _place(field, key)
        yield from _text(place, key, NAME, _UNPRINTABLE, least=1, what="the key")
        yield from check(place, values[key])


def _place(field: str, key: str) -> str:
    return f"{field}[{json.dumps(key[:_SHOWN])}]"


def _count(field: str, count: int) -> Iterator[Violation]:
    if count > LABELS:
        yield Violation(field=field, rule=f"{field}.count", message=f"has {count} entries, and {LABELS} are the most")


def _text(
    field: str, text: str, longest: int | None, refused: re.Pattern[str], *, least: int = 0, what: str = ""
) -> Iterator[Violation]:
    rule = re.sub(r"\[.*", "", field)
    what = f"{what} " if what else ""
    if len(text) < least:
        yield Violation(field=field, rule=f"{rule}.length", message=f"{what}is empty")
    elif longest is not None and len(text) > longest:
        message = f"{what}has {len(text)} characters, and {longest} are the most"
        yield Violation(field=field, rule=f"{rule}.length", message=message)
    if (found := refused.search(text)) is not None:
        message = f"{what}has the control character U+{ord(found[0]):04X} at {found.start()}"
        yield Violation(field=field, rule=f"{rule}.characters", message=message)
