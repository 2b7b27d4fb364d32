"""Keeping secret values out of what leaves an activity."""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any
from urllib.parse import quote, quote_plus

REDACTED = "***REDACTED***"
_SHORTEST_PART = 4
"""A shorter secret is only taken out where it is the whole string: as a part it would hit ordinary text."""

_SHORTEST_CODE = 6
"""The same for a part of base64: fewer characters hold too little of the secret to be worth a false hit."""


class Redactor:
    """Replaces secret values, in the forms in which peers echo them, wherever they stand in a JSON value.

    Forms: as they are, percent-encoded, JSON-escaped, and base64, also of a longer text that they are
    part of. Keys of objects are searched too. A value that a peer has transformed in another way cannot be recognized.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        present = {secret for secret in secrets if secret}
        parts = {form for secret in present if len(secret) >= _SHORTEST_PART for form in _forms(secret)}
        # The longest first: a secret may be part of another one.
        self._parts = sorted(parts, key=lambda part: (-len(part), part))
        self._wholes = frozenset(present)

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        if text in self._wholes:
            return REDACTED
        return _without(self._parts, text)

    def is_in(self, content: bytes) -> bool:
        """Whether a secret stands in `content`, whatever else it is."""
        encoded = (part.encode() for part in self._parts)
        return any(part in content for part in encoded) or any(whole.encode() == content for whole in self._wholes)

    def stream(self) -> "RedactedStream":
        """Return what takes the same secrets out of a text that comes in pieces."""
        return RedactedStream(self._parts, self._wholes)

    def value(self, value: Any) -> Any:
        """Return `value`, a JSON value, without secrets; the given one is not changed."""
        if not self._wholes:
            return value
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
            case dict():
                return {self.text(str(key)): self.value(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
            case int() | float() if not isinstance(value, bool) and str(value) in self._wholes:
                return REDACTED
            case _:
                return value


class RedactedStream:
    """Takes secrets out of a text that comes in pieces, of which any may end within a secret.

    What could be the beginning of a secret is held back until it is known whether it is one.
    """

    def __init__(self, parts: Sequence[str], wholes: Set[str]) -> None:
        """See `Redactor.stream`."""
        self._parts = parts
        self._wholes = wholes
        self._by_first: dict[str, list[str]] = {}
        for part in parts:
            self._by_first.setdefault(part[0], []).append(part)
        self._longest = max(map(len, parts), default=0)
        self._held = ""
        self._is_begun = False

    def feed(self, piece: str) -> str:
        """Take the next piece; gives what may be shown by now."""
        text = self._held + piece
        cut = self._cut(text)
        self._held = text[cut:]
        self._is_begun = self._is_begun or cut > 0
        return _without(self._parts, text[:cut])

    def rest(self) -> str:
        """The text is over: gives what was held back."""
        held, self._held = self._held, ""
        return REDACTED if not self._is_begun and held in self._wholes else _without(self._parts, held)

    def _cut(self, text: str) -> int:
        """How much of the text no secret can begin in that is not over yet."""
        if not self._is_begun and any(whole.startswith(text) for whole in self._wholes):
            return 0
        end = len(text)
        cut = end
        for start in range(max(0, end - self._longest + 1), end):
            tail = text[start:]
            if any(part.startswith(tail) and part != tail for part in self._by_first.get(text[start], ())):
                cut = start
                break
        while (before := self._spanning(text, cut)) < cut:
            cut = before
        return cut

    def _spanning(self, text: str, cut: int) -> int:
        """Where the first secret begins that the cut would go through; `cut` when there is none."""
        if cut == len(text):
            return cut
        found = (text.find(part, max(0, cut - len(part) + 1), cut + len(part) - 1) for part in self._parts)
        return min((at for at in found if 0 <= at < cut), default=cut)


def _without(parts: Iterable[str], text: str) -> str:
    for part in parts:
        if part in text:
            text = text.replace(part, REDACTED)
    return text


def _forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    url_safe = base64.urlsafe_b64encode(secret.encode()).decode()
    escaped = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    return {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        *escaped,
        *_inside_base64(secret),
        encoded,
        encoded.rstrip("="),
        url_safe,
        url_safe.rstrip("="),
    }


def _inside_base64(secret: str) -> Iterator[str]:
    """Give what base64 of a longer text, such as `user:password`, has of the secret alone, by its place in it."""
    raw = secret.encode()
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            part = encode(b"\0" * before + raw).decode()[first:last]
            if len(part) >= _SHORTEST_CODE:
                yield part
