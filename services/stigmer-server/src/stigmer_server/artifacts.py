"""Archives of skills, stored by the hash of their content in one folder and nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from pathlib import Path

from stigmer_server.errors import MissingError

_FOLDER = "skills"
_KEY = re.compile(r"skills/[0-9a-f]{64}\.zip")


def digest(content: bytes) -> str:
    """Return the hash by which content is stored: SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()


def key_of(hash: str) -> str:
    """Return the storage key of the content with the hash."""
    return f"{_FOLDER}/{hash}.zip"


class Artifacts:
    """The archives below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def read(self, key: str) -> bytes:
        """Return stored content. Only keys of the form that `store` returns lead to a file. Raises: MissingError."""
        if _KEY.fullmatch(key) is None:
            raise MissingError.of("Artifact", key)
        try:
            return await asyncio.to_thread((self._root / key).read_bytes)
        except FileNotFoundError as error:
            raise MissingError.of("Artifact", key) from error

    async def store(self, content: bytes) -> str:
        """Store content durably and return its key; content that is there already is not written again."""
        key = key_of(digest(content))
        await asyncio.to_thread(_write, self._root / key, content)
        return key


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens meanwhile."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
