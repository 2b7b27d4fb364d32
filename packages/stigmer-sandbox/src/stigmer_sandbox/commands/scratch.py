"""A command's files, put into a workspace that is kept, before the command begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from stigmer_sandbox.commands import beneath
from stigmer_sandbox.errors import CommandError


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
            with beneath.placed(folder, path, owner) as opened:
                opened.write(content)
        except OSError as error:
            raise CommandError(f"the file {name!r} cannot be put into the workspace: {error.strerror}") from error
