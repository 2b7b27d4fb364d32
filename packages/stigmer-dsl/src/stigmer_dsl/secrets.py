"""Secrets as symbols: expressions see a marker, and the value is filled in where it is used.

A marker is a text that stands for a secret inside other data, so it survives interpolation and is safe to store. It
carries a nonce, chosen for each run and told to nobody outside it: data from elsewhere that looks like a marker is
just text.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, quote_plus

from stigmer_dsl.errors import MissingSecretError

REDACTED = "***REDACTED***"
"""What stands in place of a secret that people would see."""

PLACEHOLDER = re.compile(r"\$\{\.(?:secrets|env_vars)\.([A-Z_][A-Z0-9_]*)\}")
"""`${.secrets.NAME}` or `${.env_vars.NAME}`, anywhere in a text of a definition."""

_IN_EXPRESSION = re.compile(r"\$\{.*\$secrets\b", re.DOTALL)
_ANY_MARKER = re.compile("⟦secret:[^⟦⟧]*⟧")
_SHORTEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The secrets that a run may use: their names, and the nonce of its markers."""

    names: frozenset[str]
    nonce: str
    """Unguessable and the same for the whole run, such as the hex digits of a random UUID."""

    def marker(self, name: str, part: str = "") -> str:
        """The marker of a secret, or of one property of a secret that is a JSON object."""
        return secret_marker(name, part, nonce=self.nonce)


def names_secret(text: str) -> bool:
    """Whether a text of a definition takes a secret: by a placeholder, or in an expression."""
    return bool(PLACEHOLDER.search(text) or _IN_EXPRESSION.search(text))


def secret_marker(name: str, part: str = "", *, nonce: str) -> str:
    """The text that stands for a secret (or for one property of it) in a run's data."""
    return f"⟦secret:{nonce}:{_escape(name)}{'.' + _escape(part) if part else ''}⟧"


def _escape(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E")


def _unescape(text: str) -> str:
    return re.sub(
        r"(?:%[0-9A-F]{2})+", lambda found: bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "replace"), text
    )


def _pattern(nonce: str) -> re.Pattern[str]:
    return re.compile(f"⟦secret:{re.escape(nonce)}:([^⟦⟧.]*)(?:\\.([^⟦⟧.]*))?⟧")


def find_secrets(value: Any, *, nonce: str) -> set[str]:
    """The names of the secrets that a value refers to, keys of objects included."""
    pattern = _pattern(nonce)
    found: set[str] = set()

    def look(text: str) -> str:
        found.update(_unescape(match[1]) for match in pattern.finditer(text))
        return text

    _map_texts(value, look)
    return found


def fill_secrets(value: Any, values: Mapping[str, str], *, nonce: str) -> Any:
    """The value with every marker replaced by its secret; the original is not changed.

    Markers with another nonce are left as they are: they are nobody's.

    Raises:
        MissingSecretError: A marker's secret has no value, or not the property that the marker names.
    """
    pattern = _pattern(nonce)
    missing: set[str] = set()

    def fill(match: re.Match[str]) -> str:
        name, part = _unescape(match[1]), _unescape(match[2] or "")
        found = _property(values.get(name), part)
        if found is None:
            missing.add(f"{name}.{part}" if part else name)
        return found or ""

    filled = _map_texts(value, lambda text: pattern.sub(fill, text) if "⟦" in text else text)
    if missing:
        raise MissingSecretError(sorted(missing))
    return filled


def _property(secret: str | None, part: str) -> str | None:
    if secret is None or not part:
        return secret
    try:
        content: Any = json.loads(secret)
    except ValueError:
        return None
    found: Any = cast("dict[str, Any]", content).get(part) if isinstance(content, dict) else None
    return found if found is None or isinstance(found, str) else json.dumps(found)


def mask_secrets(value: Any) -> Any:
    """The value with every marker, whatever its nonce, replaced by `***REDACTED***`: for people to see."""
    return _map_texts(value, lambda text: _ANY_MARKER.sub(REDACTED, text) if "⟦" in text else text)


def redact(value: Any, values: Mapping[str, str] | Iterable[str]) -> Any:
    """The value without any secret: `***REDACTED***` stands for each, and for each marker.

    Found in texts and keys, as they are and as JSON, URLs and base64 write them (base64 also where the secret is part
    of a longer text, such as `user:password`). Secrets shorter than 4 characters are left: they would match too much.
    """
    secrets = list(cast("Mapping[str, str]", values).values() if isinstance(values, Mapping) else values)
    forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
    if not forms:
        return mask_secrets(value)
    pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form))))
    return mask_secrets(_map_texts(value, lambda text: pattern.sub(REDACTED, text)))


def _forms(secret: str) -> set[str]:
    """The ways in which a secret may be written."""
    forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    raw = secret.encode()
    for shift in range(3):
        # Base64 of a text that contains the secret: what depends on the secret alone, by its offset modulo 3.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            code = encode(b"\0" * shift + raw).decode().rstrip("=")
            first = (shift * 8 + 5) // 6
            last = (shift + len(raw)) * 8 // 6
            if last - first >= _SHORTEST:
                forms.add(code[first:last])
    forms.add(base64.b64encode(raw).decode())
    forms.add(base64.urlsafe_b64encode(raw).decode())
    return {form for form in forms if len(form) >= _SHORTEST}


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of the value with every text and key changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {change(key): _map_texts(item, change) for key, item in pairs.items()}
    if isinstance(value, (list, tuple)):
        return [_map_texts(item, change) for item in cast("list[Any]", value)]
    return value
