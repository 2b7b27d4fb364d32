"""A workspace that begins with the files of another one, where both are folders of this machine.

What is in them was made by programs that may mean harm, and may still run: every folder is walked as itself, no link
is followed, links stay links, and nothing but files is opened.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stigmer_sandbox import beneath

from agent_runner.errors import WorkspaceFileError
from agent_runner.workspace.port import Workspaces

MOST_FILES = 100_000
"""How many files, folders and links are copied."""
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST)
"""What the system says when a folder is to take the place of one that is not empty."""
_PIECE = 1024 * 1024
_MODE = 0o777


async def copy_workspace(workspaces: Workspaces, source: str, target: str) -> None:
    """Let the workspace of the thread `target` begin with what is in that of `source` now.

    All of it is there at once. A workspace that has something in it already stays as it is, so this may be done again.
    Where workspaces are elsewhere, nothing is copied.

    Raises:
        WorkspaceFileError: There is more than a workspace may hold, or something that cannot be read.
    """
    theirs, own = await workspaces.open(source), await workspaces.open(target)
    if theirs.folder is not None and own.folder is not None:
        await asyncio.to_thread(_replace, theirs.folder, own.folder, own.most_bytes)


def _replace(source: Path, target: Path, most_bytes: int) -> None:
    if any(target.iterdir()):
        return
    made = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
    try:
        _Copy(source=source, target=made, bytes_left=most_bytes, most_bytes=most_bytes).make()
        made.rename(target)
    except OSError as error:
        if error.errno not in _IN_USE:
            raise WorkspaceFileError(f"the files of the session cannot be copied: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass(slots=True, kw_only=True)
class _Copy:
    """One copy, as far as it is made."""

    source: Path
    target: Path
    bytes_left: int
    most_bytes: int
    files_left: int = MOST_FILES

    def make(self) -> None:
        for parent, folders, names, opened in beneath.walked(self.source, onerror=_unless_gone):
            place = Path(parent).relative_to(self.source)
            if folders and len(place.parts) == beneath.DEEPEST:
                raise WorkspaceFileError(f"the workspace has more than {beneath.DEEPEST} folders in one another")
            to = self.target / place
            for name in (*folders, *names):
                self._count()
                try:
                    self._one(name, opened, to / name)
                except OSError as error:
                    _unless_gone(error)

    def _one(self, name: str, opened: int, to: Path) -> None:
        found = os.stat(name, dir_fd=opened, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            to.mkdir(mode=0o700)
        elif stat.S_ISLNK(found.st_mode):
            to.symlink_to(os.readlink(name, dir_fd=opened))
        elif stat.S_ISREG(found.st_mode):
            self._file(name, opened, to)

    def _file(self, name: str, opened: int, to: Path) -> None:
        with os.fdopen(os.open(name, _FILE, dir_fd=opened), "rb") as file, to.open("xb") as copy:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return
            while piece := file.read(_PIECE):
                self.bytes_left -= len(piece)
                if self.bytes_left < 0:
                    raise WorkspaceFileError(f"the workspace of the session holds more than {self.most_bytes} bytes")
                copy.write(piece)
            os.fchmod(copy.fileno(), found.st_mode & _MODE)
        os.utime(to, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _count(self) -> None:
        self.files_left -= 1
        if self.files_left < 0:
            raise WorkspaceFileError(f"the workspace of the session holds more than {MOST_FILES} files")


def _unless_gone(error: OSError) -> None:
    """Pass over what is gone, or has become a link, since its folder was looked into: the session may be at work."""
    if error.errno not in _GONE:
        raise error
