"""What of a folder belongs to a skill."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from stigmer_cli.errors import InvalidInputError

SKILL_FILE = "SKILL.md"
LEFT_OUT = (
    ".git",
    ".hg",
    ".svn",
    ".DS_Store",
    "Thumbs.db",
    ".env",
    ".idea",
    ".vscode",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
)
"""Names of files and folders that are left out wherever they stand. Whole names: `.github` and `venv.md` stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a skill."""

    name: str
    """Its path in the skill, with slashes."""
    path: Path
    size: int
    is_executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The files of a skill, sorted by name, and what was left out of it."""

    members: tuple[Member, ...]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(member.size for member in self.members)


def read_folder(folder: Path, *, exclude: Sequence[str] = ()) -> Contents:
    """Return what of a folder belongs to a skill.

    A link to a file of the folder counts as that file.

    Args:
        folder: With a SKILL.md in it.
        exclude: Further patterns, each against the whole name of a file or folder, or its whole path in the skill.

    Raises:
        InvalidInputError: There is no SKILL.md at its root, or something in it can be no part of an archive.
    """
    left_out: list[str] = []
    patterns = (*LEFT_OUT, *(pattern.rstrip("/") for pattern in exclude))
    members = sorted(_walk(folder, "", patterns, left_out), key=lambda member: member.name)
    if not any(member.name == SKILL_FILE for member in members):
        near = next((member.name for member in members if member.name.lower().endswith("skill.md")), "")
        msg = f"{folder} is no skill: there is no {SKILL_FILE} at its root"
        raise InvalidInputError(msg, hint=f"there is {near}" if near else "write one: it tells what the skill is for")
    return Contents(members=tuple(members), left_out=tuple(sorted(left_out)))


def _walk(root: Path, below: str, patterns: Sequence[str], left_out: list[str]) -> Iterator[Member]:
    for entry in sorted(os.scandir(root / below), key=lambda entry: entry.name):
        name = f"{below}{entry.name}"
        if any(fnmatchcase(entry.name, pattern) or fnmatchcase(name, pattern) for pattern in patterns):
            left_out.append(f"{name}/" if entry.is_dir() else name)
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(root, f"{name}/", patterns, left_out)
        else:
            yield _member(root, name, Path(entry.path))


def _member(root: Path, name: str, path: Path) -> Member:
    target = path.resolve()
    if path.is_symlink() and not (target.is_file() and target.is_relative_to(root.resolve())):
        msg = f"{path} is a link to something that is no file of the skill"
        raise InvalidInputError(msg, hint=f"replace it with the file, or leave it out with --exclude {name}")
    if not target.is_file():
        msg = f"{path} is neither a file nor a folder"
        raise InvalidInputError(msg, hint=f"leave it out with --exclude {name}")
    found = target.stat()
    return Member(name=name, path=target, size=found.st_size, is_executable=bool(found.st_mode & 0o100))
