"""Files of a workspace that is a folder of this machine, read from outside the sandbox, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from stigmer_sandbox import CommandError, beneath, checked_name

from agent_runner.errors import WorkspaceFileError
from agent_runner.workspace.port import MOST_ENTRIES, Entry

TOO_DEEP = f"more than {beneath.DEEPEST} folders in one another"


def listed(folder: Path, without: Collection[str] = ()) -> tuple[Entry, ...]:
    """See `Workspace.entries`."""
    return tuple(
        Entry(path=path, size=size, modified=modified, is_folder=is_folder)
        for path, size, modified, is_folder in beneath.entries(folder, MOST_ENTRIES, without)
    )


def read(folder: Path, path: str, most: int) -> bytes:
    """See `Workspace.read`."""
    try:
        file = beneath.opened(folder, PurePosixPath(checked(path)))
    except OSError as error:
        raise missing(path) from error
    with os.fdopen(file, "rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise too_large(path, most)
    return content


def checked(path: str) -> str:
    """A path that stays in the workspace. Raises: WorkspaceFileError."""
    try:
        return str(checked_name(path))
    except CommandError as error:
        raise WorkspaceFileError(str(error)) from None


def missing(path: str) -> WorkspaceFileError:
    """What to say of a file that is not there."""
    return WorkspaceFileError(f"there is no file {path!r} in the workspace", missing=True)


def too_large(path: str, most: int) -> WorkspaceFileError:
    """What to say of a file that is larger than wanted."""
    return WorkspaceFileError(f"the file {path!r} has more than {most} bytes")


def full(most: int) -> WorkspaceFileError:
    """What to say of a workspace that holds too much."""
    return WorkspaceFileError(f"the workspace would hold more than {most} bytes, or has {TOO_DEEP}: delete files first")
