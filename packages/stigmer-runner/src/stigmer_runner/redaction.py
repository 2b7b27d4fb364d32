"""Keeping secret values out of what leaves an activity."""

import base64
import json
from collections.abc import Iterable, Iterator
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
        for part in self._parts:
            if part in text:
                text = text.replace(part, REDACTED)
        return text

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
