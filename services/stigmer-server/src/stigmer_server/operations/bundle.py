"""What a backup consists of, in a folder or in one archive.

manifest.json     what is in it, with the size and SHA-256 of every file
stigmer.db        the database, as of one moment, without a log beside it
storage/…         the artifacts that it names
encryption.key    the keys of its secrets; only when asked for
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from stigmer_sqlite.disk import sync_folder

from stigmer_server.artifacts import FORMS
from stigmer_server.errors import OperationError
from stigmer_server.kinds import registry
from stigmer_server.operations.sizes import size

MANIFEST, DATABASE, KEYS, STORAGE = "manifest.json", "stigmer.db", "encryption.key", "storage"
_PART = 1024 * 1024
_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_LARGEST_MANIFEST = 256 * 1024 * 1024


class File(BaseModel):
    """A file of a backup."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a backup says of itself."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    created_at: str
    server_version: str
    sequence: int
    """The newest change in it."""
    resources: Mapping[str, int]
    """How many records there are, by kind: resources, and what else the server keeps."""
    keys: tuple[str, ...]
    """Names of the keys that its secrets are sealed with."""
    missing: tuple[str, ...]
    """Artifacts that the database names and the storage did not have, or not as they were."""
    files: Mapping[str, File]
    """Every file but this one, by its path in the backup."""

    @property
    def artifacts(self) -> list[str]:
        """Keys of the artifacts in it."""
        return [path.removeprefix(f"{STORAGE}/") for path in self.files if path.startswith(f"{STORAGE}/")]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def told(self) -> str:
        """What is in it, for people."""
        resources = sum(count for kind, count in self.resources.items() if kind in registry())
        others = sum(self.resources.values()) - resources
        beside = f", {others} other records" if others else ""
        return f"{resources} resources{beside}, {len(self.artifacts)} artifacts, {size(self.size)}"


def is_archive(path: Path) -> bool:
    """Tell whether a backup of this name is one file."""
    return path.name.endswith(_SUFFIXES)


def is_artifact_key(key: str) -> bool:
    """Tell whether the key leads to an artifact, and nowhere else."""
    return any(form.hash_of(key) for form in FORMS)


def copy(source: IO[bytes], target: Path) -> File:
    """Copy a stream to a new file that only its owner may read, wait for the disk, and return what it is."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        found = _measured(source, file.write)
        file.flush()
        os.fsync(file.fileno())
    return found


def measured(path: Path) -> File:
    """Return what a file is."""
    with path.open("rb") as file:
        return _measured(file)


def _measured(source: IO[bytes], write: Callable[[bytes], object] = lambda _: None) -> File:
    digest, count = hashlib.sha256(), 0
    while part := source.read(_PART):
        digest.update(part)
        count += len(part)
        write(part)
    return File(bytes=count, sha256=digest.hexdigest())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a backup's folder, which is complete by that, and wait for the disk."""
    path = folder / MANIFEST
    copy(io.BytesIO(manifest.model_dump_json(indent=1).encode()), path)
    for inner in (*(found for found in folder.rglob("*") if found.is_dir()), folder):
        sync_folder(inner)


def pack(folder: Path, archive: Path, manifest: Manifest) -> None:
    """Write the files of a backup's folder into one archive, the manifest first, and wait for the disk."""
    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w" if archive.name.endswith(".tar") else "w:gz", dereference=True) as tar:
            for name in (MANIFEST, *manifest.files):
                tar.add(folder / name, arcname=name, recursive=False, filter=_anonymous)
        file.flush()
        os.fsync(file.fileno())


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class Bundle:
    """A backup to read from."""

    def __init__(self, manifest: Manifest, files: Callable[[], Iterator[tuple[str, IO[bytes]]]]) -> None:
        self.manifest = manifest
        self._files = files

    def unpack(self, folder: Path) -> None:
        """Copy every file into a new folder and hold it against the manifest.

        Raises:
            OperationError: A file is missing, differs from what the manifest says, or is not in it.
        """
        self._go_through(lambda name, source: copy(source, folder / name))

    def verify(self) -> None:
        """Hold every file against the manifest. Raises: as `unpack`."""
        self._go_through(lambda _, source: _measured(source))

    def _go_through(self, take: Callable[[str, IO[bytes]], File]) -> None:
        left = dict(self.manifest.files)
        for name, source in self._files():
            expected = left.pop(name, None)
            if expected is None:
                msg = f"the backup has a file that its manifest does not tell of: {name}"
                raise OperationError(msg)
            try:
                found = take(name, source)
            except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                msg = f"the backup is damaged: {name}: {error}"
                raise OperationError(msg) from error
            if found != expected:
                msg = f"the backup is damaged: {name} is not what its manifest says"
                raise OperationError(msg)
        if left:
            msg = f"the backup is not whole: {', '.join(sorted(left))} is missing"
            raise OperationError(msg)


@contextmanager
def open_bundle(path: Path) -> Generator[Bundle]:
    """Read a backup, a folder or an archive.

    Raises:
        OperationError: It is none, or was made by a newer version.
    """
    if path.is_dir():
        manifest = _manifest(path, _read_small(path / MANIFEST, path))
        yield Bundle(manifest, lambda: _folder_files(path))
        return
    with ExitStack() as stack:
        with _reading(path):
            tar = stack.enter_context(tarfile.open(path))
            first = tar.next()
            content = tar.extractfile(first) if first is not None and first.name == MANIFEST else None
            if content is None or first is None or first.size > _LARGEST_MANIFEST:
                msg = f"{path} is no backup: it does not begin with {MANIFEST}"
                raise OperationError(msg)
            manifest = _manifest(path, content.read())
        yield Bundle(manifest, lambda: _archive_files(path, tar))


@contextmanager
def _reading(path: Path) -> Generator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        msg = f"{path} cannot be read as a backup: {error}"
        raise OperationError(msg) from error


def _read_small(path: Path, backup: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{backup} is no backup: {error}"
        raise OperationError(msg) from error


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        msg = f"{path} is no backup that this version knows: {MANIFEST}: {error.errors()[0]['msg']}"
        raise OperationError(msg) from error
    for name in manifest.files:
        if name not in (DATABASE, KEYS) and not is_artifact_key(name.removeprefix(f"{STORAGE}/")):
            msg = f"{path} is no backup that this version knows: it has a file {name!r}"
            raise OperationError(msg)
    if DATABASE not in manifest.files:
        msg = f"{path} has no database"
        raise OperationError(msg)
    return manifest


def _folder_files(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                yield name, file


def _archive_files(path: Path, tar: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    while True:
        with _reading(path):
            member = tar.next()
            content = tar.extractfile(member) if member is not None and member.isreg() else None
        if member is None:
            return
        if content is None:
            msg = f"the backup has something that is no file: {member.name}"
            raise OperationError(msg)
        yield member.name, content
