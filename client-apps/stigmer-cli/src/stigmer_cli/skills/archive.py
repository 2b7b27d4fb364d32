"""Archives of skills: packed so that the same files always make the same bytes, and unpacked with care."""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from stigmer_cli.errors import ConflictError, InvalidInputError
from stigmer_cli.skills.folder import Contents, Member

STORED_BYTES = 4 * 2**20
"""Up to this size files are packed as they are: what a compressor makes of them differs between machines."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PACKED, _EXECUTABLE = 0o644, 0o755
_UNIX = 3
_BLOCK = 2**20
_LARGEST_RATIO = 90
"""Servers refuse what is packed more than 100 to 1 as a bomb; such a file is packed as it is."""


def pack(contents: Contents, file: IO[bytes]) -> str:
    """Write the archive of a skill and return the SHA-256 of its bytes in hex.

    It depends on names, contents and executable bits alone. Beyond 4 MiB it is compressed, and then also depends on
    the compressor.
    """
    is_stored = contents.size <= STORED_BYTES
    with zipfile.ZipFile(file, "w") as archive:
        for member in contents.members:
            entry = zipfile.ZipInfo(member.name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = (stat.S_IFREG | (_EXECUTABLE if member.is_executable else _PACKED)) << 16
            packed = zipfile.ZIP_STORED if is_stored or _is_dense(member) else zipfile.ZIP_DEFLATED
            entry.compress_type = packed
            entry.file_size = member.size
            with member.path.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _BLOCK)
    return digest(file)


def digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of a file in hex, and leave it at its beginning."""
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return found


def unpack(file: IO[bytes], folder: Path, *, overwrite: bool = False) -> int:
    """Write the files of an archive into a folder and return how many there are.

    Raises:
        ConflictError: The folder has something in it, and nothing said to write over it.
        InvalidInputError: It is no archive, or holds a name that leads out of the folder.
    """
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is no folder"
        raise ConflictError(msg, hint="name another one")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        msg = f"{folder} is not empty"
        raise ConflictError(msg, hint="name another folder, or write over its files with --force")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            for entry in entries:
                _check(entry)
            for entry in entries:
                _write(archive, entry, folder)
    except (zipfile.BadZipFile, zlib.error) as error:
        msg = f"the archive cannot be read: {error}"
        raise InvalidInputError(msg) from error
    return len(entries)


def _is_dense(member: Member) -> bool:
    """Whether the file would be packed so tightly that a server takes it for a bomb."""
    packer = zlib.compressobj()
    packed = 0
    with member.path.open("rb") as source:
        while block := source.read(_BLOCK):
            packed += len(packer.compress(block))
    packed += len(packer.flush())
    return member.size > packed * _LARGEST_RATIO


def _check(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    is_plain = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not path.parts or not is_plain:
        msg = f"the archive holds {entry.filename!r}, which is not written anywhere"
        raise InvalidInputError(msg, hint="nothing was written")


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        # Written over, not through: it may lead anywhere.
        target.unlink()
    with archive.open(entry) as source, target.open("wb") as written:
        shutil.copyfileobj(source, written, _BLOCK)
    if (entry.external_attr >> 16) & 0o100:
        target.chmod(target.stat().st_mode | 0o111 & ~_umask())


def _umask() -> int:
    """Return what new files are not to have; it cannot be asked for without being set."""
    import os

    found = os.umask(0o022)
    os.umask(found)
    return found
