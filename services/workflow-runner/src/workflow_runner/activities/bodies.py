"""What a call over HTTP sends: bodies as their content type wants them, and values in addresses."""

import base64
import binascii
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, cast
from urllib.parse import urlencode

from workflow_runner.activities.calls import CallFailedError

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
OCTETS = "application/octet-stream"
_NONE: frozenset[str] = frozenset()


def encode(body: Any, kind: str | None, *, binary: Set[str] = _NONE) -> tuple[str, bytes]:
    """Return a body's content type and its bytes.

    Args:
        body: Any JSON value.
        kind: The content type that is asked for; without one an object or a list is JSON, and a text is one.
        binary: Names of the parts of a multipart form that are base64 of what is sent.

    Raises:
        CallFailedError: The body cannot be written in this type.
    """
    if kind is None:
        kind = "text/plain; charset=utf-8" if isinstance(body, str) else JSON
    plain = kind.partition(";")[0].strip().lower()
    if plain == FORM and isinstance(body, dict):
        return kind, urlencode(list(pairs(cast("dict[str, Any]", body).items()))).encode()
    if plain == MULTIPART and isinstance(body, dict):
        return _multipart(cast("dict[str, Any]", body), kind, binary)
    charset = kind.lower().partition("charset=")[2].partition(";")[0].strip(" \"'") or "utf-8"
    try:
        return kind, text(body).encode(charset)
    except (LookupError, UnicodeEncodeError):
        raise CallFailedError("configuration", f"the body cannot be written in {charset}") from None


def decoded(value: Any, what: str) -> bytes:
    """Return the bytes that base64 stands for, as `output: raw` gives it.

    Raises:
        CallFailedError: It is no base64.
    """
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise CallFailedError("validation", f"{what} is binary and must be given as base64") from None


def pairs(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield a name with each of its values: a list is several, null is none."""
    for name, value in values:
        for item in cast("list[Any]", value) if isinstance(value, list) else [value]:
            if item is not None:
                yield name, text(item)


def text(value: Any) -> str:
    """Return a text as it is, and anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that would be more than they seem.

    Raises:
        CallFailedError: One holds a line break, or what is no ASCII.
    """
    if any("\r" in part or "\n" in part for pair in headers.items() for part in pair):
        raise CallFailedError("configuration", "a header holds a line break")
    for name, value in headers.items():
        odd = next((character for character in name + value if not character.isascii()), None)
        if odd is not None:
            detail = f"the header {name} holds {odd!r}, and headers take ASCII only: encode it as the peer reads it"
            raise CallFailedError("configuration", detail)


def _multipart(body: Mapping[str, Any], kind: str, binary: Set[str]) -> tuple[str, bytes]:
    boundary = kind.partition("boundary=")[2].partition(";")[0].strip('" ') or secrets.token_hex(16)
    parts: list[bytes] = []
    for name, value in body.items():
        for item in cast("list[Any]", value) if isinstance(value, list) else [value]:
            if item is not None:
                parts += [f"--{boundary}\r\n".encode(), _part(name, item, is_binary=name in binary), b"\r\n"]
    full = kind if "boundary=" in kind else f"{kind}; boundary={boundary}"
    return full, b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _part(name: str, value: Any, *, is_binary: bool) -> bytes:
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'Content-Disposition: form-data; name="{quoted}"'
    if is_binary:
        file = f'{head}; filename="{quoted}"\r\nContent-Type: {OCTETS}\r\n\r\n'
        return file.encode() + decoded(value, f"the part {name!r}")
    kind = "" if isinstance(value, str) else f"\r\nContent-Type: {JSON}"
    return f"{head}{kind}\r\n\r\n{text(value)}".encode()
