"""Skill archives: zip files from outside, looked at without trusting anything they say of themselves."""

from __future__ import annotations

import stat
import struct
import unicodedata
import zipfile
import zlib
from copy import copy
from pathlib import PurePosixPath
from typing import IO

from stigmer_server.errors import InvalidError

SKILL_FILE = "SKILL.md"
MAX_UNPACKED_BYTES = 500 * 2**20
MAX_RATIO = 100
MAX_FILES = 10_000
MAX_NAME_BYTES = 1024
MAX_SKILL_FILE_BYTES = 2**20
_SMALL_BYTES = 64 * 2**10
"""Below this, a high ratio is only a short file of repeated text."""
_CHUNK_BYTES = 2**20
_EXTRA = struct.Struct("<HH")
"""What each field of an entry's extra part begins with: what it is, and its size."""
_UNICODE_PATH = 0x7075
_PACKINGS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""What every unpacker knows, and what says how far it got: other packings would have to be trusted."""


def read_skill(file: IO[bytes]) -> str:
    """Return the text of the archive's SKILL.md. Every file in it is read to its end, and nothing is unpacked to disk.

    Raises:
        InvalidError: The archive breaks a rule.
    """
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check(entries)
            for entry in entries:
                _check_content(archive, entry)
            return _skill_text(archive)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        OverflowError,
        ValueError,
    ) as error:
        raise _invalid("zip", f"is not a readable zip file: {error}") from error


def _check(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_FILES:
        raise _invalid("files", f"holds more than {MAX_FILES} files")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise _invalid("unpacked", f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry)
        name = _folded(entry.filename)
        if name in seen:
            raise _invalid("duplicate", f"holds {entry.filename!r} twice, where letters of either case are the same")
        seen.add(name)
    files = {_folded(entry.filename) for entry in entries if not entry.is_dir()}
    for entry in entries:
        if any(str(parent) in files for parent in PurePosixPath(_folded(entry.filename)).parents):
            raise _invalid("duplicate", f"holds {entry.filename!r} below something that is a file")


def _folded(name: str) -> str:
    """Return a name as the file systems see it that tell the fewest names apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).rstrip("/")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    # Not `filename`, which ends at a NUL and so hides what other unpackers see.
    name = entry.orig_filename
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if not name or drive or path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise _invalid("path", f"holds the unsafe name {name!r}")
    if not path.parts or len(name.encode()) > MAX_NAME_BYTES:
        raise _invalid("path", f"holds the unusable name {name[:100]!r}")
    if entry.filename != name or _further_name(entry) not in ("", name):
        raise _invalid("path", f"holds {name!r} under another name, too; pack it again with names in UTF-8")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _invalid("type", f"holds {name!r}, which is no plain file")
    if entry.flag_bits & 0x1:
        raise _invalid("encrypted", f"holds the encrypted file {name!r}")
    if entry.compress_type not in _PACKINGS:
        raise _invalid("packing", f"holds {name!r}, packed in a way other than deflate; pack it again")
    if entry.file_size > max(entry.compress_size * MAX_RATIO, _SMALL_BYTES):
        raise _invalid("ratio", f"holds {name!r}, packed more than {MAX_RATIO} to 1")


def _further_name(entry: zipfile.ZipInfo) -> str:
    """Return the name that some unpackers, newer Pythons among them, would have in place of the entry's; or ""."""
    extra = entry.extra
    while len(extra) >= _EXTRA.size:
        field, size = _EXTRA.unpack_from(extra)
        if field == _UNICODE_PATH:
            return extra[_EXTRA.size + 5 : _EXTRA.size + size].decode(errors="replace")
        extra = extra[_EXTRA.size + size :]
    return ""


def _check_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Read a file to its end: its checksum must be right, and it must not be larger than it says."""
    generous = copy(entry)
    generous.file_size += 1
    size = 0
    with archive.open(generous) as file:
        while chunk := file.read(_CHUNK_BYTES):
            size += len(chunk)
    if size != entry.file_size:
        raise _invalid("size", f"holds {entry.filename!r}, which has another size than the archive says")


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
