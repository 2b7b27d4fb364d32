"""Blobs in a folder that all runners share: on one machine, or on a network file system with locks.

    <folder>/runs/<run>/owner        which run it is
    <folder>/runs/<run>/<key>        its blobs
    <folder>/objects/<ab>/<key>      the same files, by content
    <folder>/trash/                  what is being removed

A blob of two runs is one file with two names: the file system counts the references, and a blob's bytes are there as
long as any run has it. So nothing that is removed under `objects` can be in use.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

from stigmer_runner.claims.port import BlobMissingError, BlobStoreError, Owner, Stored

_OWNER = "owner"
_PART = ".part"
_PRIVATE = 0o700


class FolderStore:
    """See the module."""

    name = "stigmer.folder"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = folder / "runs"
        self._objects = folder / "objects"
        self._trash = folder / "trash"

    @property
    def place(self) -> str:
        """See `BlobStore`."""
        return str(self._folder)

    def put(self, owner: Owner, key: str, data: bytes) -> None:
        """See `BlobStore`."""
        try:
            with self._held(owner) as run:
                if (run / key).exists():
                    os.utime(run)
                    return
                pooled = self._objects / key[:2] / key
                if not _linked(pooled, run / key):
                    _write(run / key, data)
                    pooled.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
                    _linked(run / key, pooled)
                _sync(run)
        except OSError as error:
            raise BlobStoreError(f"a value of {len(data)} bytes cannot be kept in {self.place}: {error}") from error

    def get(self, owner: Owner, key: str) -> bytes:
        """See `BlobStore`."""
        path = self._runs / owner.name / key
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise BlobMissingError(f"there is no {path}") from None
        except OSError as error:
            raise BlobStoreError(f"{path} cannot be read: {error}") from error

    def stored(self) -> Iterator[Stored]:
        """See `BlobStore`."""
        try:
            for run in self._runs.iterdir() if self._runs.exists() else ():
                # One without an owner was begun a moment ago, or by a process that was killed: `sweep` sees to it.
                with contextlib.suppress(FileNotFoundError):
                    kept = run / _OWNER
                    began = kept.stat().st_mtime
                    yield Stored(owner=Owner.decoded(kept.read_bytes()), began=began, touched=run.stat().st_mtime)
        except OSError as error:
            raise BlobStoreError(f"{self.place} cannot be read: {error}") from error

    def drop(self, owner: Owner, *, before: float) -> bool:
        """See `BlobStore`."""
        return self._drop(self._runs / owner.name, before)

    def sweep(self, *, before: float) -> None:
        """See `BlobStore`."""
        for run in _entries(self._runs):
            if not (run / _OWNER).exists():
                self._drop(run, before)
        for shard in _entries(self._objects):
            for pooled in _entries(shard):
                found = pooled.stat()
                # Should a run take the file at this moment, the run's own name of it stands.
                if found.st_nlink == 1 and found.st_mtime < before:
                    pooled.unlink(missing_ok=True)
        for left in _entries(self._trash):
            shutil.rmtree(left, ignore_errors=True)

    def _drop(self, run: Path, before: float) -> bool:
        try:
            held = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(held).st_mtime >= before:
                return False
            self._trash.mkdir(mode=_PRIVATE, exist_ok=True)
            away = self._trash / uuid4().hex
            run.rename(away)
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            os.close(held)
        shutil.rmtree(away, ignore_errors=True)
        return True

    @contextlib.contextmanager
    def _held(self, owner: Owner) -> Generator[Path]:
        """Give the folder of a run, which is not removed meanwhile."""
        run = self._runs / owner.name
        while True:
            run.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            try:
                held = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(held, fcntl.LOCK_SH)
                if not _is(held, run):
                    continue
                if not (run / _OWNER).exists():
                    _write(run / _OWNER, owner.encoded())
                    _sync(self._runs)
                yield run
                return
            finally:
                os.close(held)


def _write(path: Path, data: bytes) -> None:
    """Write a file that is whole and on the disk once it has its name."""
    part = path.with_name(f"{uuid4().hex}{_PART}")
    try:
        with part.open("xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _linked(source: Path, target: Path) -> bool:
    """Give a file a further name; False where it is not there, has too many, or the file system knows no such thing."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _is(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []
