"""What was known of a workspace's files when they were last compared with the server's.

It stands in a file of the workspace itself, so it goes wherever the workspace goes, and with it. An agent that spoils
it spoils nothing but what is known of its own files: they are then read, and compared, anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_runner.errors import WorkspaceFileError
from agent_runner.workspace import files
from agent_runner.workspace.port import Entry

FOLDER = ".stigmer"
"""The folder of a workspace that is Stigmer's own."""
PATH = f"{FOLDER}/files.json"
MOST_BYTES = 8 * 2**20

_HASH = re.compile("(?:[0-9a-f]{64})?")
_COARSEST_SECONDS = 2.0
"""A file that was written shortly before it was looked at may have been written once more within the same tick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one file.

    Attributes:
        hash: SHA-256 of what the server has, in hex; "": the server was not to have it.
        size: How many bytes it had here.
        modified: When it was written here; 0: not known.
        executable: Whether it can be run.
    """

    hash: str
    size: int = 0
    modified: float = 0.0
    executable: bool = False

    def is_still(self, entry: Entry, looked_at: float) -> bool:
        """Whether the file here is for sure what it was."""
        unchanged = (entry.size, entry.modified) == (self.size, self.modified)
        return unchanged and entry.modified < looked_at - _COARSEST_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What is known of all files, by their paths, and when they were looked at."""

    files: Mapping[str, Known]
    looked_at: float = 0.0


def encoded(knowledge: Knowledge) -> bytes:
    """What stands in the file."""
    files = {
        path: [known.hash, known.size, known.modified, known.executable] for path, known in knowledge.files.items()
    }
    return json.dumps({"looked_at": knowledge.looked_at, "files": files}).encode()


def decoded(content: bytes) -> Knowledge:
    """What a file says; nothing when an agent has spoiled it."""
    try:
        said: Any = json.loads(content)
        known = {_path(path): _known(*each) for path, each in said["files"].items()}
        return Knowledge(files=known, looked_at=float(said["looked_at"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, WorkspaceFileError):
        return Knowledge(files={})


def _path(said: str) -> str:
    said.encode()
    return files.checked(said)


def _known(hash_: str, size: int, modified: float, executable: bool) -> Known:
    if not _HASH.fullmatch(hash_):
        raise ValueError(hash_)
    return Known(hash=hash_, size=int(size), modified=float(modified), executable=bool(executable))
