"""Secrets: sealed before they are stored, opened for the run that needs them, and shown to nobody.

A sealed value reads `enc:v1:<key>:<nonce>:<text>`: AES-256-GCM, with the format's version, the resource's id and the
value's name as associated data, so that a sealed text is worthless in any other place. `<key>` names the key, which
lets several keys stand side by side while they are rotated.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stigmer_server.errors import InvalidError, ServerError, StartupError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, at_path
from stigmer_server.settings import decode_keys

REDACTED = "***REDACTED***"
"""What every reader sees in place of a secret, and may send back to keep it."""

_FORMAT = "enc:v1:"
_MARK = _FORMAT.encode()
_NONCE_BYTES = 12


class UnsealError(ServerError):
    """A sealed value cannot be opened: its key is gone, or it was forged or moved."""


class Sealer:
    """Seals and opens values; the first key seals, every key opens."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {hashlib.sha256(b"stigmer-key:" + key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self._current = next(iter(self._ciphers))

    def seal(self, value: str, *, id: str, name: str) -> str:
        """Return the value sealed for one place: the named value of the resource with this id."""
        nonce = os.urandom(_NONCE_BYTES)
        text = self._ciphers[self._current].encrypt(nonce, value.encode(), _place(id, name))
        return f"{_FORMAT}{self._current}:{_encode(nonce)}:{_encode(text)}"

    def unseal(self, sealed: str, *, id: str, name: str) -> str:
        """Return the value that was sealed for this place.

        Raises:
            UnsealError: It was not sealed by us for this place, or its key is not among ours.
        """
        try:
            key, nonce, text = sealed.removeprefix(_FORMAT).split(":")
            opened = self._ciphers[key].decrypt(_decode(nonce), _decode(text), _place(id, name))
        except (ValueError, KeyError, InvalidTag) as error:
            msg = f"the value {name!r} of {id} cannot be opened; is the encryption key the one it was sealed with?"
            raise UnsealError(msg) from error
        return opened.decode()


def is_sealed(value: str) -> bool:
    """Tell whether the text has the form of a sealed value."""
    return value.startswith(_FORMAT)


def open_sealer(keys: str | None, path: Path) -> Sealer:
    """Return the sealer of the given keys, or of the key file, which is made when it is not there.

    Raises:
        StartupError: The file cannot be read or made, is open to others, or holds no key.
    """
    try:
        return Sealer(decode_keys(keys if keys is not None else _read_or_make(path)))
    except (OSError, ValueError) as error:
        msg = f"encryption key file {path}: {error}"
        raise StartupError(msg) from error


def _read_or_make(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            msg = "others may read it; run: chmod 600 " + str(path)
            raise ValueError(msg) from None
        return path.read_text(encoding="ascii").strip().replace("\n", ",")
    key = base64.b64encode(os.urandom(32)).decode()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def seal_message(kind: Kind, message: Message, stored: Message | None, sealer: Sealer) -> None:
    """Seal every secret of a new state in place. One that did not change keeps its sealed text.

    Raises:
        InvalidError: A redacted value was sent where no secret is stored, or to make a secret public.
    """
    id = message.metadata.id
    for path in kind.secrets:
        before = dict(_entries(stored, path)) if stored is not None else {}
        for name, entry in _entries(message, path):
            entry.value = _sealed(entry, before.get(name), f"{path}[{name}]", (sealer, id, name))


def unseal_message(kind: Kind, message: Message, sealer: Sealer) -> None:
    """Open every secret of a stored state in place. Raises: UnsealError."""
    for path in kind.secrets:
        for name, entry in _entries(message, path):
            if entry.is_secret and is_sealed(entry.value):
                entry.value = sealer.unseal(entry.value, id=message.metadata.id, name=name)


def _sealed(entry: Message, old: Message | None, field: str, place: tuple[Sealer, str, str]) -> str:
    """Return what to store for one value, given what is stored now."""
    sealer, id, name = place
    kept = old.value if old is not None and old.is_secret and is_sealed(old.value) else ""
    if entry.value == REDACTED and (entry.is_secret or kept):
        if kept and entry.is_secret:
            return kept
        rule = "secret.value.required"
        message = "send the value itself: no secret is stored here that could be kept"
        if kept:
            message = "send the value itself to make a secret public"
        raise InvalidError.of(field, rule, message)
    if not entry.is_secret or not entry.value:
        return entry.value
    if kept and sealer.unseal(kept, id=id, name=name) == entry.value:
        return kept
    return sealer.seal(entry.value, id=id, name=name)


def needs_redaction(kind: Kind, wire: bytes) -> bool:
    """Tell, without decoding, whether an encoded resource may hold a sealed value."""
    return bool(kind.secrets) and _MARK in wire


def redact(kind: Kind, message: Message) -> None:
    """Replace every secret of a resource in place."""
    for path in kind.secrets:
        for _, entry in _entries(message, path):
            if entry.is_secret and entry.value:
                entry.value = REDACTED


def _entries(message: Message, path: str) -> Iterator[tuple[str, Message]]:
    if _has(message, path):
        values = at_path(message, path)
        for name in sorted(values):
            yield name, values[name]


def _has(message: Message, path: str) -> bool:
    """Tell whether every message on the way to the path's end is set, without setting any."""
    *parents, _ = path.split(".")
    for name in parents:
        if not message.HasField(name):
            return False
        message = getattr(message, name)
    return True


def _place(id: str, name: str) -> bytes:
    return "\0".join(("v1", id, name)).encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
