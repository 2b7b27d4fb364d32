"""Where an agent works: the interface, and the values that it takes and gives.

Above it stand the tools of agents, and whoever puts files into a session's workspace or takes them out; below it the
places where workspaces can be: folders of this machine, with commands in namespaces, in containers or on the machine
itself, and sandboxes of a provider. It knows nothing of agents or of deepagents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from stigmer_sandbox import Finished

MOST_ENTRIES = 10_000
"""How many files and folders of a workspace are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or a folder of a workspace.

    Attributes:
        path: Relative to the workspace, with slashes.
        size: Of a file, in bytes; 0 for a folder.
        modified: When it was written last, in seconds since the epoch.
        is_folder: Whether it is one.
    """

    path: str
    size: int = 0
    modified: float = 0.0
    is_folder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a command in a workspace.

    Attributes:
        finished: How it ended, and what it said.
        is_full: Whether the workspace holds more than it may: then commands can tidy up, and write next to nothing.
    """

    finished: Finished
    is_full: bool = False


@runtime_checkable
class Workspace(Protocol):
    """One session's workspace. It is there when first needed, and kept between opens.

    Paths of `entries`, `read` and `write` are relative to it, `""` excluded; `..`, absolute paths and NUL are refused,
    and no link is followed: what an agent made must not choose what is read or written here.
    """

    @property
    def id(self) -> str:
        """What it is called where it is; "" when it is not there yet and its place gives it its name."""
        ...

    @property
    def root(self) -> str:
        """Where commands find it, and begin."""
        ...

    @property
    def most_bytes(self) -> int:
        """What it may hold."""
        ...

    @property
    def folder(self) -> Path | None:
        """The workspace on this machine; None: it is elsewhere."""
        ...

    def seen(self, readable: Path) -> str:
        """Where commands find a folder that they were given to read; they cannot change it."""
        ...

    async def run(self, *arguments: str, stdin: bytes = b"", seconds: float | None = None) -> Outcome:
        """Run a command to its end, which comes in any case when its time is over.

        When this returns or is cancelled, nothing that the command started runs any more.

        Args:
            arguments: The program and its arguments.
            stdin: What it reads.
            seconds: How long it may take; None: as long as any.

        Raises:
            CommandError: It cannot be begun: no such program, an unusable name.
            SandboxUnavailableError: No command can be run.
        """
        ...

    async def entries(self, *, without: Collection[str] = ()) -> tuple[Entry, ...]:
        """Its files and folders, by path; links and devices left out, and what comes after the first `MOST_ENTRIES`.

        Args:
            without: Names of folders that are left out with all that is in them, wherever they stand.

        Raises:
            SandboxUnavailableError: The place where it is cannot be reached.
        """
        ...

    async def read(self, path: str, *, most: int) -> bytes:
        """A file's content.

        Raises:
            WorkspaceFileError: There is no such file, it has more than `most` bytes, or its path is refused.
            SandboxUnavailableError: The place where it is cannot be reached.
        """
        ...

    async def write(self, path: str, content: bytes) -> None:
        """Write a file, in place of one that may be there; folders on the way are made.

        Raises:
            WorkspaceFileError: The workspace would hold too much, or the path is refused or leads through a file.
            SandboxUnavailableError: The place where it is cannot be reached.
        """
        ...


@runtime_checkable
class Workspaces(Protocol):
    """The workspaces of sessions, each by its session's thread."""

    @property
    def name(self) -> str:
        """What they are, for people."""
        ...

    async def unusable(self) -> str:
        """Why no command can be run here, and what to do about it; "" when they can."""
        ...

    async def open(
        self,
        thread: str,
        *,
        environment: Mapping[str, str] | None = None,
        readable: tuple[Path, ...] = (),
        network: bool = False,
    ) -> Workspace:
        """A thread's workspace. Opening costs little: nothing is started before a command is run.

        Args:
            thread: The session's thread, free text.
            environment: Variables of its commands; no process list and no label shows them.
            readable: Folders of this machine that its commands see, and cannot change.
            network: Whether its commands ask for the network; without, they have none.

        Raises:
            SandboxUnavailableError: The place where it is cannot be reached.
        """
        ...

    async def remove(self, thread: str) -> None:
        """Remove a thread's workspace with all that is in it, and end what runs there; one that is gone is no error.

        Raises:
            SandboxUnavailableError: The place where it is cannot be reached.
        """
        ...

    async def tidy(self) -> None:
        """Remove what nothing has used for long, and what lost runners left, now and then, until cancelled."""
        ...
