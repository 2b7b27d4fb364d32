"""The keys that seal secrets: how they are named, and the file that holds them while no setting does.

The file has one key a line, in base64; the first seals, every one opens. It changes whole or not at all, so that
whoever reads it while the keys are rotated finds the old keys or the new ones.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stigmer_sqlite.disk import sync_folder

from stigmer_server.errors import BusyError

_BYTES = 32

Stamp = tuple[int, int, int]
"""Tells one content of a file from the next, without reading it."""


def new_key() -> bytes:
    """Return a key that nobody has."""
    return os.urandom(_BYTES)


def key_name(key: bytes) -> str:
    """Return the name by which a sealed value says which key opens it; it tells nothing of the key."""
    return hashlib.sha256(b"stigmer-key:" + key).hexdigest()[:8]


class KeyFile:
    """A file of keys, which nobody but its owner may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> Stamp | None:
        """Return the stamp of the present content; None: there is no file."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> list[bytes]:
        """Return the keys.

        Raises:
            OSError: It is not there or cannot be read.
            ValueError: Others may read it, or it holds no key.
        """
        if self.path.stat().st_mode & 0o077:
            msg = "others may read it; run: chmod 600 " + str(self.path)
            raise ValueError(msg)
        return decode_keys(self.path.read_text(encoding="ascii").strip().replace("\n", ","))

    def read_or_make(self) -> list[bytes]:
        """Return the keys, of which there is one after this at the latest. Raises: as `read`."""
        if not self.path.exists():
            # Under its final name only when it is complete; of two that are made at once, the first stays.
            draft = self._draft([new_key()])
            try:
                self.path.hardlink_to(draft)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
            sync_folder(self.path.parent)
        return self.read()

    def write(self, keys: Sequence[bytes]) -> None:
        """Put the keys in place of the present ones, durably. Raises: OSError."""
        self._draft(keys).replace(self.path)
        sync_folder(self.path.parent)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep out others who change the keys. Raises: BusyError, OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor, self.path)
            yield
        finally:
            os.close(descriptor)

    def _draft(self, keys: Sequence[bytes]) -> Path:
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("".join(base64.b64encode(key).decode() + "\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        return draft


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = f"another process is changing the keys in {path}"
        raise BusyError(msg) from None


def decode_keys(text: str) -> list[bytes]:
    """Return the keys of a comma-separated list, each 32 bytes in base64 or hex. Raises: ValueError."""
    return [_decode_key(part.strip()) for part in text.split(",") if part.strip()] or [_decode_key("")]


def _decode_key(text: str) -> bytes:
    for decode in (bytes.fromhex, _from_base64):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == _BYTES:
            return key
    msg = f"an encryption key is {_BYTES} bytes in base64 or hex (make one: openssl rand -base64 32)"
    raise ValueError(msg)


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
