"""A command's files, put into a workspace that is kept, before the command begins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from stigmer_sandbox.errors import CommandError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Not to wait for the other end of a pipe that somebody put there.
_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK


def checked_name(name: str) -> PurePosixPath:
    """Return a file's path below the workspace. Raises: CommandError when it would lead elsewhere."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise CommandError(f"the file name {name!r} does not stay in the workspace: use a relative path without '..'")
    return path


def put_files(folder: Path, files: Mapping[str, bytes], *, owner: int | None = None) -> None:
    """Write files below a folder.

    No link is followed: whoever may write into the folder must not choose where this process writes.

    Args:
        folder: The folder.
        files: Contents by path.
        owner: Who shall have them, and the folders that are made for them; None: who makes them.

    Raises:
        CommandError: A path leads out of the folder, goes through a link, or cannot be written.
    """
    for name, content in files.items():
        path = checked_name(name)
        try:
            _put(folder, path, content, owner)
        except OSError as error:
            raise CommandError(f"the file {name!r} cannot be put into the workspace: {error.strerror}") from error


def _put(folder: Path, path: PurePosixPath, content: bytes, owner: int | None) -> None:
    with ExitStack() as stack:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, here)
        for part in path.parent.parts:
            made = _made(part, here)
            here = os.open(part, _FOLDER, dir_fd=here)
            stack.callback(os.close, here)
            if made and owner is not None:
                os.fchown(here, owner, owner)
        file = os.open(path.name, _FILE, 0o700, dir_fd=here)
        with os.fdopen(file, "wb") as opened:
            opened.write(content)
            if owner is not None:
                os.fchown(file, owner, owner)


def _made(name: str, folder: int) -> bool:
    """Make a folder; tells whether it was not there before."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return False
    return True
