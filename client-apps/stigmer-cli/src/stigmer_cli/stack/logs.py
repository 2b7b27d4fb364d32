"""Log files of components: written with a time on every line, rotated by size, read back by time.

Every line is `2026-01-31T12:00:00.000Z text`, whatever wrote it, so that files can be merged and searched by time.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 3
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")
_STAMP_LENGTH = 25


def now_stamp() -> str:
    """Return the present time as log lines carry it: UTC, milliseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class RotatingLog:
    """A component's log file. When it is full it becomes `name.log.1`, the one before `name.log.2` and so on."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept_files: int = KEPT_FILES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._kept_files = kept_files
        self._file: IO[bytes] | None = None
        self._partial = b""

    def feed(self, chunk: bytes) -> None:
        """Take output as it comes, whole lines or not."""
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self.write(line.rstrip(b"\r").decode(errors="replace"))

    def write(self, line: str) -> None:
        """Write one line, with the time before it."""
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        if self._file.tell() > self._max_bytes:
            self._rotate()
        self._file.write(f"{now_stamp()} {line}\n".encode())

    def close(self) -> None:
        """Write what is left of the last line, and close the file."""
        if self._partial:
            self.write(self._partial.decode(errors="replace"))
            self._partial = b""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotate(self) -> None:
        if self._file is not None:
            self._file.close()
        for number in range(self._kept_files - 1, 0, -1):
            older = _numbered(self.path, number)
            if older.exists():
                older.replace(_numbered(self.path, number + 1))
        self.path.replace(_numbered(self.path, 1))
        self._file = self.path.open("ab", buffering=0)


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of one log file, without their times; empty when there is no such file."""
    try:
        content = path.read_bytes()[-64 * 1024 :].decode(errors="replace")
    except OSError:
        return []
    return [_STAMP.sub("", line) for line in content.splitlines()[-lines:]]


def components(folder: Path) -> list[str]:
    """Return the components that have a log file."""
    return sorted(path.stem for path in folder.glob("*.log"))


def merge(folder: Path, names: list[str], *, since: str = "") -> Iterator[tuple[str, str]]:
    """Yield (component, line) of all the components' files in the order of time, from `since` (a stamp) on."""
    sources = [_stamped_lines(folder / f"{name}.log", name) for name in names]
    for stamp, name, line in heapq.merge(*sources, key=lambda entry: entry[0]):
        if stamp >= since:
            yield name, line


def _stamped_lines(path: Path, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield (stamp, component, line), oldest first; a line without a time has that of the line before it."""
    stamp = ""
    for number in range(KEPT_FILES, -1, -1):
        part = _numbered(path, number)
        if not part.exists():
            continue
        with part.open(errors="replace") as file:
            for line in file:
                if _STAMP.match(line):
                    stamp = line[: _STAMP_LENGTH - 1]
                yield stamp, name, line.rstrip("\n")


class Follower:
    """Reads what is added to a log file from now on, through rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._inode = 0
        self._partial = ""
        if path.exists():
            self._open(path).seek(0, 2)

    def read(self) -> list[str]:
        """Return the whole lines added since the last call."""
        lines = self._drain()
        for path in self._newer_files():
            self._open(path)
            lines += self._drain()
        return lines

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _newer_files(self) -> list[Path]:
        """Return the files that began after the one being read, oldest first."""
        newer: list[Path] = []
        for number in range(KEPT_FILES + 1):
            path = _numbered(self._path, number)
            if not path.exists() or path.stat().st_ino == self._inode:
                break
            newer.insert(0, path)
        return newer

    def _open(self, path: Path) -> IO[str]:
        self.close()
        self._file = file = path.open(errors="replace")
        self._inode = path.stat().st_ino
        return file

    def _drain(self) -> list[str]:
        if self._file is None:
            return []
        *lines, self._partial = (self._partial + self._file.read()).split("\n")
        return lines


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path
