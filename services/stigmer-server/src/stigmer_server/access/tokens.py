"""Tokens: how they are made, kept in files, and compared.

A token is 256 random bits, so nobody guesses it, and one round of SHA-256 hides it as well as any slow hash would:
slowness only helps secrets that people choose.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from stigmer_server.errors import StartupError

_RANDOM_BYTES = 32
_LEAST_LENGTH = 32
"""Characters of a token that was not made here: as many as 128 bits take in hex."""


def new_token(prefix: str) -> str:
    """Return a fresh token; the prefix tells people, and scanners for secrets, what it is."""
    return f"{prefix}_{secrets.token_urlsafe(_RANDOM_BYTES)}"


def digest(token: str) -> bytes:
    """Return what a token is kept and compared as."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def read_token_file(path: Path, prefix: str) -> str:
    """Return the token in a file, which is made, for its owner alone, when it is not there.

    Raises:
        StartupError: The file cannot be read or made, is open to others, or holds no token of at least 32 characters.
    """
    try:
        token = _read_or_make(path, prefix)
    except (OSError, ValueError) as error:
        msg = f"token file {path}: {error}"
        raise StartupError(msg) from error
    return token


def _read_or_make(path: Path, prefix: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    token = new_token(prefix)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    return token


def _read(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        msg = f"others may read it; run: chmod 600 {path}"
        raise ValueError(msg)
    token = path.read_text(encoding="ascii").strip()
    if len(token) < _LEAST_LENGTH or not token.isprintable() or " " in token:
        msg = f"it holds no token of at least {_LEAST_LENGTH} characters; remove it and a new one is made"
        raise ValueError(msg)
    return token
