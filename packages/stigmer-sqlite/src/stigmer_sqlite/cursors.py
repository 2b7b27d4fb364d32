"""Checked queries and the cursors between their pages: opaque to callers, bound to their query, versioned."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence

from stigmer_sqlite.errors import InvalidCursorError, InvalidQueryError
from stigmer_sqlite.kinds import Kind
from stigmer_sqlite.port import Query
from stigmer_sqlite.records import check_text

MAX_LIMIT = 10_000
# A database bounds the depth of a condition and the number of its values; within these every store can answer.
MAX_TERMS = 300
MAX_VALUES = 20_000
_VERSION = b"\x01"
_DIGEST = 8
_INT64 = range(-(2**63), 2**63)


def organizations(query: Query) -> tuple[str, ...] | None:
    """Return the organizations whose records match, without repetition; None: all."""
    if query.org_id is None:
        return None
    return (query.org_id,) if isinstance(query.org_id, str) else tuple(dict.fromkeys(query.org_id))


def accepted_values(kind: Kind, query: Query) -> dict[str, tuple[str | int, ...]]:
    """Return, for each index in `query.where`, the values that match, without repetition.

    Raises: InvalidQueryError for an unknown index, a value of another type, or anything else wrong with the query.
    """
    if not 1 <= query.limit <= MAX_LIMIT:
        raise InvalidQueryError(f"limit {query.limit} is not between 1 and {MAX_LIMIT}")
    if query.offset not in _INT64 or query.offset < 0:
        raise InvalidQueryError(f"offset {query.offset} is not between 0 and {_INT64.stop - 1}")
    for name in ("project_id", "slug", "text"):
        check_text(name, getattr(query, name) or "")
    for org in organizations(query) or ():
        check_text("org_id", org)
    if (terms := len(query.labels) + len(query.selector)) > MAX_TERMS:
        raise InvalidQueryError(f"a query has at most {MAX_TERMS} terms about labels, not {terms}")
    for key, value in query.labels.items():
        check_text("label key", key)
        check_text("label value", value)
    for term in query.selector:
        check_text("label key", term.key)
        for value in term.values:
            check_text("label value", value)
    accepted: dict[str, tuple[str | int, ...]] = {}
    for name, value in query.where.items():
        if name not in kind.indexes:
            known = ", ".join(kind.indexes) or "none"
            raise InvalidQueryError(f"kind {kind.name!r} has no index {name!r} (it has: {known})")
        accepted[name] = _values(name, value)
    named = sum(len(term.values) for term in query.selector) + sum(len(values) for values in accepted.values())
    if named > MAX_VALUES:
        raise InvalidQueryError(f"a query names at most {MAX_VALUES} values, not {named}")
    return accepted


def _values(name: str, value: object) -> tuple[str | int, ...]:
    match value:
        case str():
            check_text(f"value of {name!r}", value)
            return (value,)
        case int() if value in _INT64:
            return (int(value),)
        case Sequence() if not isinstance(value, bytes | bytearray):
            texts: dict[str, None] = {}
            for item in value:  # pyright: ignore[reportUnknownVariableType] # checked right here
                if not isinstance(item, str):
                    raise InvalidQueryError(f"index {name!r} cannot be compared with {item!r} in a list")
                check_text(f"value of {name!r}", item)
                texts[item] = None
            return tuple(texts)
        case _:
            raise InvalidQueryError(f"index {name!r} cannot be compared with {value!r}")


def encode_cursor(query: Query, position: int) -> str:
    """Return the cursor of the page after the record at `position`."""
    payload = _VERSION + position.to_bytes(8)
    return base64.urlsafe_b64encode(payload + _digest(query, payload)).decode().rstrip("=")


def decode_cursor(query: Query) -> int | None:
    """Return the position after which the page starts; None for the first page. Raises: InvalidCursorError."""
    if not query.cursor:
        return None
    try:
        raw = base64.b64decode(query.cursor + "=" * (-len(query.cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidCursorError("cursor is not one of this store's") from error
    payload, digest = raw[:9], raw[9:]
    if len(raw) != 9 + _DIGEST or payload[:1] != _VERSION:
        raise InvalidCursorError("cursor is not one of this store's")
    if digest != _digest(query, payload):
        raise InvalidCursorError("cursor belongs to another query")
    return int.from_bytes(payload[1:])


def _digest(query: Query, payload: bytes) -> bytes:
    # Several values may be the outcome of another question, and be others by the time of the next page.
    where = {name: value if isinstance(value, str | int) else None for name, value in query.where.items()}
    terms = [(term.key, list(term.values), term.negated) for term in query.selector]
    filters = [query.kind, query.org_id, query.project_id, dict(query.labels), where, query.text, query.newest_first]
    text = json.dumps([*filters, terms, query.created_after, query.slug], sort_keys=True)
    return hashlib.blake2b(payload + text.encode(), digest_size=_DIGEST).digest()
