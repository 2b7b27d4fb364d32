"""Archives of skills, stored by the hash of their content in one folder and nowhere else.

An archive arrives in a file of its own and takes its place only when it is complete and safe, so that nobody ever
sees half of one. What no version of any skill names any more is swept away; an archive whose push is still under way
is held until that has committed or failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from stigmer_server.errors import InvalidError, MissingError

MAX_BYTES = 100 * 2**20
"""Largest archive."""
PART_BYTES = 2**20
"""Size of the pieces in which an archive is read."""

_FOLDER = "skills"
_INCOMING = "incoming"
_KEY = re.compile(r"skills/([0-9a-f]{64})\.zip")


def key_of(hash: str) -> str:
    """Return the storage key of the content with the hash."""
    return f"{_FOLDER}/{hash}.zip"


def hash_of(key: str) -> str:
    """Return the hash of the content with the storage key; "" for what is no such key."""
    return key.removeprefix(f"{_FOLDER}/").removesuffix(".zip") if _KEY.fullmatch(key) else ""


class Incoming:
    """An archive on its way in."""

    def __init__(self, artifacts: Artifacts, file: IO[bytes]) -> None:
        self._artifacts = artifacts
        self._digest = hashlib.sha256()
        self.file = file
        """What has come so far; readable and seekable."""
        self.size = 0
        self.kept = ""
        """The hash under which it was kept, if it was."""

    @property
    def hash(self) -> str:
        """SHA-256, in hex, of what has come so far."""
        return self._digest.hexdigest()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises: InvalidError when they are too many."""
        self.size += len(chunk)
        if self.size > MAX_BYTES:
            raise InvalidError.of("artifact", "skill.artifact.size", f"the archive is larger than {MAX_BYTES} bytes")
        await asyncio.to_thread(self._write, chunk)

    async def keep(self) -> str:
        """Store what has come, durably, and return its key. It is held until this archive's block is left."""
        self.kept = self.hash
        return await self._artifacts.take(self.kept, self.file)

    def _write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.file.write(chunk)


class Artifacts:
    """The archives below one folder. Belongs to one event loop."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: Counter[str] = Counter()
        self._released: set[str] = set()
        """Hashes that were let go since the last sweep began: it may have asked too early who names them."""

    def discard_unfinished(self) -> None:
        """Remove what a server that was killed had half received. Only for the start, when nothing is received yet."""
        for path in (self._root / _INCOMING).glob("*"):
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def receiving(self) -> AsyncGenerator[Incoming]:
        """Receive an archive; unless it is kept, nothing of it stays."""
        file = await asyncio.to_thread(_open_incoming, self._root / _INCOMING)
        incoming = Incoming(self, file)
        try:
            yield incoming
        finally:
            if incoming.kept:
                self._held[incoming.kept] -= 1
                self._released.add(incoming.kept)
            await asyncio.shield(asyncio.to_thread(_discard, file))

    async def read(self, key: str) -> bytes:
        """Return stored content. Only keys of the form that `keep` returns lead to a file. Raises: MissingError."""
        return b"".join([part async for part in self.parts(key)])

    async def parts(self, key: str) -> AsyncIterator[bytes]:
        """Yield stored content piece by piece, and whole even if it is swept away meanwhile. Raises: MissingError."""
        if _KEY.fullmatch(key) is None:
            raise MissingError.of("Artifact", key)
        try:
            file = await asyncio.to_thread((self._root / key).open, "rb")
        except FileNotFoundError as error:
            raise MissingError.of("Artifact", key) from error
        with file:
            while part := await asyncio.to_thread(file.read, PART_BYTES):
                yield part

    async def take(self, hash: str, file: IO[bytes]) -> str:
        """Put a received file in its place, unless the same content is there already, and hold it there."""
        self._held[hash] += 1
        key = key_of(hash)
        await asyncio.to_thread(_place, Path(file.name), self._root / key, file)
        return key

    async def sweep(self, named: Callable[[], Awaitable[frozenset[str]]]) -> int:
        """Remove every archive whose hash `named` does not return and return how many. One sweep at a time."""
        self._released.clear()
        present = await asyncio.to_thread(self._hashes)
        unnamed = present - await named()
        removed = 0
        for hash in sorted(unnamed):
            if self._held[hash] <= 0 and hash not in self._released:
                # On the event loop, so that no push can take hold of it between the question and the answer.
                (self._root / key_of(hash)).unlink(missing_ok=True)
                removed += 1
        self._held += Counter()
        return removed

    def _hashes(self) -> set[str]:
        found = (_KEY.fullmatch(f"{_FOLDER}/{path.name}") for path in (self._root / _FOLDER).glob("*.zip"))
        return {match[1] for match in found if match}


def _open_incoming(folder: Path) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=folder, suffix=".zip", delete=False)


def _discard(file: IO[bytes]) -> None:
    file.close()
    Path(file.name).unlink(missing_ok=True)


def _place(source: Path, target: Path, file: IO[bytes]) -> None:
    """Move a file to its place so that it is there whole or not at all, whatever happens meanwhile."""
    file.flush()
    os.fsync(file.fileno())
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    for folder in (target.parent, target.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
