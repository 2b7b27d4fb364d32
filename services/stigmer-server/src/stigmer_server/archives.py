"""Skill archives: zip files from outside, looked at without trusting anything they say of themselves."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import PurePosixPath

from stigmer_server.errors import InvalidError

SKILL_FILE = "SKILL.md"
MAX_ARCHIVE_BYTES = 100 * 2**20
MAX_UNPACKED_BYTES = 500 * 2**20
MAX_RATIO = 100
MAX_FILES = 10_000
MAX_SKILL_FILE_BYTES = 2**20
_SMALL_BYTES = 64 * 2**10
"""Below this, a high ratio is only a short file of repeated text."""


def read_skill(content: bytes) -> str:
    """Return the text of the archive's SKILL.md; nothing is unpacked.

    Raises:
        InvalidError: The archive breaks a rule.
    """
    if len(content) > MAX_ARCHIVE_BYTES:
        raise _invalid("size", f"is larger than {MAX_ARCHIVE_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check(archive.infolist())
            return _skill_text(archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise _invalid("zip", f"is not a readable zip file: {error}") from error


def _check(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_FILES:
        raise _invalid("files", f"holds more than {MAX_FILES} files")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise _invalid("unpacked", f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry)
        if entry.filename in seen:
            raise _invalid("duplicate", f"holds {entry.filename!r} twice")
        seen.add(entry.filename)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    path = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    if not name or drive or path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise _invalid("path", f"holds the unsafe name {name!r}")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _invalid("type", f"holds {name!r}, which is no plain file")
    if entry.flag_bits & 0x1:
        raise _invalid("encrypted", f"holds the encrypted file {name!r}")
    if entry.file_size > max(entry.compress_size * MAX_RATIO, _SMALL_BYTES):
        raise _invalid("ratio", f"holds {name!r}, packed more than {MAX_RATIO} to 1")


def _skill_text(archive: zipfile.ZipFile) -> str:
    try:
        file = archive.open(SKILL_FILE)
    except KeyError:
        raise _invalid("skill_file", f"has no {SKILL_FILE} at its root") from None
    with file:
        content = file.read(MAX_SKILL_FILE_BYTES + 1)
    if len(content) > MAX_SKILL_FILE_BYTES:
        raise _invalid("skill_file", f"holds a {SKILL_FILE} larger than {MAX_SKILL_FILE_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _invalid("skill_file", f"holds a {SKILL_FILE} that is not UTF-8") from None
    if not text.strip():
        raise _invalid("skill_file", f"holds an empty {SKILL_FILE}")
    return text


def _invalid(rule: str, problem: str) -> InvalidError:
    return InvalidError.of("artifact", f"skill.artifact.{rule}", f"the archive {problem}")
