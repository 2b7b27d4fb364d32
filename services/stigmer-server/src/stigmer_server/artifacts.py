"""Archives of skills, large values and files of workspaces, stored by the hash of their content in one folder each.

An artifact arrives in a file of its own and takes its place only when it is complete and safe, so that nobody ever
sees half of one. What nothing in the database names any more is swept away; an artifact whose push is still under way
is held until that has committed or failed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stigmer_server.errors import InvalidError, MissingError, TooLargeError

MAX_BYTES = 100 * 2**20
"""Largest archive."""
PART_BYTES = 2**20
"""Size of the pieces in which an artifact is read."""

_INCOMING = "incoming"
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What artifacts of one sort have in common."""

    folder: str
    suffix: str
    field: str
    """The field of requests that bring one."""
    rule: str
    """What is broken by one that is too large."""
    name: str

    def key_of(self, hash: str) -> str:
        """Return the storage key of the content with the hash."""
        return f"{self.folder}/{hash}{self.suffix}"

    def hash_of(self, key: str) -> str:
        """Return the hash of the content with the storage key; "" for what is no such key."""
        hash = key.removeprefix(f"{self.folder}/").removesuffix(self.suffix)
        return hash if _HASH.fullmatch(hash) and key == self.key_of(hash) else ""


ARCHIVES = Form(folder="skills", suffix=".zip", field="artifact", rule="skill.artifact.size", name="archive")
VALUES = Form(folder="values", suffix=".zst", field="header.value.bytes", rule="value.size", name="value")
"""JSON texts, compressed with Zstandard."""
FILES = Form(folder="files", suffix=".bin", field="header.path", rule="file.size", name="file")
FORMS = (ARCHIVES, VALUES, FILES)


class Incoming:
    """An artifact on its way in."""

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
        """Take the next bytes. Raises: InvalidError when they are too many, TooLargeError when the disk is full."""
        self.size += len(chunk)
        most, form = self._artifacts.most, self._artifacts.form
        if self.size > most:
            raise InvalidError.of(form.field, form.rule, f"the {form.name} is larger than {most} bytes")
        with _on_disk(form):
            await asyncio.to_thread(self._write, chunk)

    async def keep(self) -> str:
        """Store what has come, durably, and return its key. It is held until this block is left."""
        self.kept = self.hash
        with _on_disk(self._artifacts.form):
            return await self._artifacts.take(self.kept, self.file)

    def _write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.file.write(chunk)


class Artifacts:
    """The artifacts of one form below one folder. Belongs to one event loop."""

    def __init__(self, root: Path, form: Form = ARCHIVES, *, most: int = MAX_BYTES) -> None:
        """Keep artifacts of `form` below `root`, of up to `most` bytes."""
        self._root = root
        self.form = form
        self.most = most
        self._held: Counter[str] = Counter()
        self._released: set[str] = set()
        """Hashes that were let go since the last sweep began: it may have asked too early who names them."""

    def discard_unfinished(self) -> None:
        """Remove what a server that was killed had half received. Only for the start, when nothing is received yet."""
        for path in (self._root / _INCOMING).glob(f"*{self.form.suffix}"):
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def receiving(self) -> AsyncGenerator[Incoming]:
        """Receive an artifact; unless it is kept, nothing of it stays."""
        file = await asyncio.to_thread(_open_incoming, self._root / _INCOMING, self.form.suffix)
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
        if not self.form.hash_of(key):
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
        key = self.form.key_of(hash)
        await asyncio.to_thread(_place, Path(file.name), self._root / key, file)
        return key

    async def sweep(self, named: Callable[[], Awaitable[frozenset[str]]]) -> int:
        """Remove every artifact whose hash `named` does not return and return how many. One sweep at a time."""
        self._released.clear()
        present = await asyncio.to_thread(self._hashes)
        unnamed = present - await named()
        removed = 0
        for hash in sorted(unnamed):
            if self._held[hash] <= 0 and hash not in self._released:
                # On the event loop, so that no push can take hold of it between the question and the answer.
                (self._root / self.form.key_of(hash)).unlink(missing_ok=True)
                removed += 1
        self._held += Counter()
        return removed

    def _hashes(self) -> set[str]:
        form = self.form
        found = (form.hash_of(f"{form.folder}/{path.name}") for path in (self._root / form.folder).glob("*"))
        return {hash for hash in found if hash}


@contextmanager
def _on_disk(form: Form) -> Generator[None]:
    """Say so where the disk is full. Raises: TooLargeError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        msg = f"the server has no room left for the {form.name}; its disk is full"
        raise TooLargeError(msg) from error


def _open_incoming(folder: Path, suffix: str) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=folder, suffix=suffix, delete=False)


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
