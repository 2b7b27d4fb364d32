"""Secrets: sealed before they are stored, opened for the run that needs them, and shown to nobody.

A sealed value reads `enc:v1:<key>:<nonce>:<text>`: AES-256-GCM, with the format's version, the resource's id and the
value's name as associated data, so that a sealed text is worthless in any other place. `<key>` names the key, which
lets several keys stand side by side while they are rotated: see `keys`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from loguru import logger

from stigmer_server.errors import InvalidError, ServerError, StartupError
from stigmer_server.keys import KeyFile, Stamp, decode_keys, key_name
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, at_path

REDACTED = "***REDACTED***"
"""What every reader sees in place of a secret, and may send back to keep it."""

_FORMAT = "enc:v1:"
_MARK = _FORMAT.encode()
_NONCE_BYTES = 12


class UnsealError(ServerError):
    """A sealed value cannot be opened: its key is gone, or it was forged or moved."""


class Sealer:
    """Seals and opens values; the first key seals, every key opens."""

    def __init__(self, keys: Sequence[bytes], *, file: KeyFile | None = None) -> None:
        """Take the keys; those of a file are taken anew whenever it has changed, so that keys can be rotated."""
        self._file = file
        self._stamp: Stamp | None = None
        self._keys = tuple(keys)
        self._ciphers = _ciphers(keys)

    @property
    def current(self) -> str:
        """Name of the key that seals."""
        return next(iter(self._ciphers))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all keys, the one that seals first."""
        return tuple(self._ciphers)

    def seal(self, value: str, *, id: str, name: str) -> str:
        """Return the value sealed for one place: the named value of the resource with this id."""
        self._follow()
        nonce = os.urandom(_NONCE_BYTES)
        key, cipher = next(iter(self._ciphers.items()))
        return f"{_FORMAT}{key}:{_encode(nonce)}:{_encode(cipher.encrypt(nonce, value.encode(), _place(id, name)))}"

    def unseal(self, sealed: str, *, id: str, name: str) -> str:
        """Return the value that was sealed for this place.

        Raises:
            UnsealError: It was not sealed by us for this place, or its key is not among ours.
        """
        try:
            key, nonce, text = sealed.removeprefix(_FORMAT).split(":")
            if key not in self._ciphers:
                self._follow()
            opened = self._ciphers[key].decrypt(_decode(nonce), _decode(text), _place(id, name))
        except (ValueError, KeyError, InvalidTag) as error:
            msg = f"the value {name!r} of {id} cannot be opened; is the encryption key the one it was sealed with?"
            raise UnsealError(msg) from error
        return opened.decode()

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """Return a key for another purpose from each of the keys, in their order; none tells anything of another."""
        self._follow()
        return tuple(_derived(key, purpose) for key in self._keys)

    def _follow(self) -> None:
        """Take the keys of the file if it is not the one that was read last."""
        if self._file is None or (stamp := self._file.stamp()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = tuple(self._file.read())
            self._ciphers = _ciphers(self._keys)
        except (OSError, ValueError) as error:
            logger.error("the keys in {} cannot be read, those read before stay in use: {}", self._file.path, error)


def _ciphers(keys: Sequence[bytes]) -> Mapping[str, AESGCM]:
    return {key_name(key): AESGCM(key) for key in keys}


@lru_cache
def _derived(key: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"stigmer {purpose}".encode()).derive(key)


def is_sealed(value: str) -> bool:
    """Tell whether the text has the form of a sealed value."""
    return value.startswith(_FORMAT)


def key_of(sealed: str) -> str:
    """Return the name of the key that a sealed value was sealed with."""
    return sealed.removeprefix(_FORMAT).partition(":")[0]


def open_sealer(keys: str | None, path: Path) -> Sealer:
    """Return the sealer of the given keys, or of the key file, which is made when it is not there.

    Raises:
        StartupError: The file cannot be read or made, is open to others, or holds no key.
    """
    if keys is not None:
        return Sealer(decode_keys(keys))
    file = KeyFile(path)
    try:
        return Sealer(file.read_or_make(), file=file)
    except (OSError, ValueError) as error:
        msg = f"encryption key file {path}: {error}"
        raise StartupError(msg) from error


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


def secrets_of(kind: Kind, message: Message) -> Iterator[tuple[str, Message]]:
    """Yield the name and the entry of every secret that a resource has, sealed or not."""
    for path in kind.secrets:
        yield from ((name, entry) for name, entry in _entries(message, path) if entry.is_secret and entry.value)


def reseal(kind: Kind, wire: bytes, sealer: Sealer) -> Message | None:
    """Return a stored resource with its secrets sealed by the first key; None: there is nothing to do.

    What no key at hand opens stays as it is.
    """
    if not needs_redaction(kind, wire):
        return None
    message, changed = kind.parse(wire), False
    for name, entry in secrets_of(kind, message):
        if is_sealed(entry.value) and key_of(entry.value) != sealer.current:
            changed |= _reseal(entry, message.metadata.id, name, sealer)
    return message if changed else None


def _reseal(entry: Message, id: str, name: str, sealer: Sealer) -> bool:
    try:
        value = sealer.unseal(entry.value, id=id, name=name)
    except UnsealError:
        return False
    entry.value = sealer.seal(value, id=id, name=name)
    return True


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
