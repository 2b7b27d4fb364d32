"""Ids and slugs: how resources are called.

An id is `<prefix>-<26 lower-case characters of a ULID>`; a slug is lower-case ASCII letters, digits and single
hyphens, neither first nor last.
"""

from __future__ import annotations

import os
import re
import time

_NOT_IN_SLUG = re.compile(r"[^a-z0-9-]")
_HYPHENS = re.compile(r"-{2,}")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
"""Ten bits in Crockford's base 32: an id is thirteen of them, made one by one."""
_RANDOM_BYTES = 10
_ULID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")


def new_id(prefix: str) -> str:
    """Return a fresh id; ids made later sort later, to the millisecond."""
    return f"{prefix}-{new_ulid()}"


def new_ulid() -> str:
    """Return a fresh ULID: 48 bits of milliseconds and 80 of chance, in lower case."""
    return ulid_of((time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(_RANDOM_BYTES)))


def ulid_of(value: int) -> str:
    """Return the ULID, in lower case, that a number of 128 bits is."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def is_id(text: str, prefix: str) -> bool:
    """Tell whether the text is a well-formed id with this prefix."""
    head, _, tail = text.partition("-")
    return head == prefix and _ULID.fullmatch(tail) is not None


def slugify(name: str) -> str:
    """Return the slug of a name: lower case, spaces to hyphens, everything else that is not [a-z0-9-] dropped.

    Hyphens are collapsed and trimmed; nothing is cut off, so different long names stay different. The result is
    empty for a name that holds no usable character.
    """
    hyphenated = _NOT_IN_SLUG.sub("", name.lower().replace(" ", "-"))
    return _HYPHENS.sub("-", hyphenated).strip("-")


def is_slug(text: str) -> bool:
    """Tell whether the text is a slug as `slugify` makes them."""
    return _SLUG.fullmatch(text) is not None
