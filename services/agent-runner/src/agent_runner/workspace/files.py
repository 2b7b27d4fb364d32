"""Files of a workspace that is a folder of this machine, read and written from outside the sandbox.

What is in the folder was made by programs that may mean harm: every path is walked one folder at a time, no link is
followed, and nothing but files is opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from stigmer_sandbox import CommandError, checked_name

from agent_runner.errors import WorkspaceFileError
from agent_runner.workspace.port import MOST_ENTRIES, Entry

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Not to wait for the other end of a pipe that somebody put there.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def listed(folder: Path) -> tuple[Entry, ...]:
    """See `Workspace.entries`."""
    return tuple(sorted(islice(_entries(folder), MOST_ENTRIES), key=lambda entry: entry.path))


def read(folder: Path, path: str, most: int) -> bytes:
    """See `Workspace.read`."""
    name = checked(path)
    with ExitStack() as stack:
        try:
            here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, here)
            for part in Path(name).parent.parts:
                here = os.open(part, _FOLDER, dir_fd=here)
                stack.callback(os.close, here)
            file = stack.enter_context(os.fdopen(os.open(Path(name).name, _FILE, dir_fd=here), "rb"))
        except OSError as error:
            raise missing(path) from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise missing(path)
        content = file.read(most + 1)
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
    return WorkspaceFileError(f"the workspace would hold more than {most} bytes: delete files first")


def held(folder: Path, most: int) -> int:
    """How many bytes the files below a folder take, as soon as they are more than `most`; links are not followed."""
    total = 0
    for _, found in _found(folder):
        total += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        if total > most:
            break
    return total


def _entries(folder: Path) -> Iterator[Entry]:
    for path, found in _found(folder):
        is_folder = stat.S_ISDIR(found.st_mode)
        if is_folder or stat.S_ISREG(found.st_mode):
            size = 0 if is_folder else found.st_size
            yield Entry(path=path, size=size, modified=found.st_mtime, is_folder=is_folder)


def _found(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a folder; what is gone meanwhile, or has a name that is no text, is left out."""
    for parent, folders, names, opened in os.fwalk(folder):
        for name in (*folders, *names):
            path = str(Path(parent, name).relative_to(folder))
            try:
                path.encode()
                yield path, os.stat(name, dir_fd=opened, follow_symlinks=False)
            except (OSError, UnicodeEncodeError):
                continue
