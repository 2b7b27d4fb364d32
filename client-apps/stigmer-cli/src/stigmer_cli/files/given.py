"""Which files of this machine go where in a workspace."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stigmer_cli.errors import InvalidInputError

LEFT_OUT = frozenset({".git", ".hg", ".svn", ".DS_Store", "node_modules", "__pycache__", ".venv"})
"""What of a folder is never put into a workspace, wherever it stands; name it by itself to put it."""
MOST = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A file of this machine."""

    source: Path
    path: str
    """Where it goes in the workspace."""

    @property
    def is_executable(self) -> bool:
        """Whether it can be run."""
        return os.access(self.source, os.X_OK)


def read_files(texts: Sequence[str]) -> tuple[Given, ...]:
    """Return the files that are given as `PATH` or `PATH=AS`; a folder is all the files in it.

    Raises:
        InvalidInputError: One is not there or cannot go there, or two would go to the same place.
    """
    found: dict[str, Given] = {}
    for text in texts:
        for given in _read(text):
            if given.path in found:
                msg = f"{found[given.path].source} and {given.source} would both be {given.path} in the workspace"
                raise InvalidInputError(msg, hint="say where one of them goes: PATH=AS")
            found[given.path] = given
    if len(found) > MOST:
        msg = f"{len(found)} files are given, and a session takes {MOST}"
        raise InvalidInputError(msg, hint="pack them into an archive, and let the agent unpack it")
    return tuple(found.values())


def _read(text: str) -> Iterator[Given]:
    before, mark, after = text.rpartition("=")
    source, place = (Path(before), after) if mark and not Path(text).exists() else (Path(text), "")
    name = place or source.expanduser().resolve().name
    source = source.expanduser()
    if source.is_dir():
        prefix = "" if place in (".", "./") else f"{name.rstrip('/')}/"
        for path in _files(source):
            yield _given(path, prefix + path.relative_to(source).as_posix())
    elif source.is_file():
        yield _given(source, name + source.name if name.endswith("/") else name)
    else:
        raise InvalidInputError(f"{source}: there is no such file or folder")


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; what is not to travel, and links out of it, are left out."""
    root = folder.resolve()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each not in LEFT_OUT)
        for name in sorted(names):
            path = Path(parent, name)
            if name not in LEFT_OUT and path.is_file() and path.resolve().is_relative_to(root):
                yield path


def _given(source: Path, path: str) -> Given:
    check_path(path)
    return Given(source=source, path=PurePosixPath(path).as_posix())


def check_path(path: str) -> None:
    """Make sure that a path stays in the folder that it is for. Raises: InvalidInputError."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in path or not _is_speakable(path):
        raise InvalidInputError(
            f"{path!r} is no path of a file in a workspace", hint="write names separated by slashes, such as data/a.csv"
        )


def _is_speakable(path: str) -> bool:
    """Tell whether a path is text, without controls; names of files may be bytes that are none."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path)
