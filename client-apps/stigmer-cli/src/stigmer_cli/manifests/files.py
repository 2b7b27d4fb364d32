"""Where manifests come from: files, folders and standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stigmer_cli.errors import InvalidInputError

STANDARD_INPUT = "-"
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A text, and what people call it."""

    name: str
    text: str


def read_files(places: Sequence[str]) -> list[File]:
    """Return the manifests at the places: files, folders (all their manifests, sorted) and `-` for standard input.

    Raises:
        InvalidInputError: A place cannot be read, or a folder holds no manifest.
    """
    files: list[File] = []
    for place in places:
        if place == STANDARD_INPUT:
            files.append(File(name="<stdin>", text=_decode("<stdin>", sys.stdin.buffer.read())))
        else:
            files += [_read(path) for path in _paths(Path(place))]
    return files


def _paths(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    found = [path for path in sorted(place.rglob("*")) if path.suffix in SUFFIXES and not _is_hidden(path, place)]
    if not found:
        msg = f"{place} holds no manifest"
        raise InvalidInputError(msg, hint=f"manifests end in {', '.join(SUFFIXES)}")
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read(path: Path) -> File:
    try:
        return File(name=str(path), text=_decode(str(path), path.read_bytes()))
    except FileNotFoundError:
        msg = f"there is no file {path}"
        raise InvalidInputError(msg, hint="give a file, a folder, or - for standard input") from None
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise InvalidInputError(msg) from error


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        msg = f"{name}:{line}: this is not UTF-8 text"
        raise InvalidInputError(msg) from error
