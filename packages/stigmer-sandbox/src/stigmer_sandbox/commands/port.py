"""What runs a command that somebody else wrote: the interface, and the values that it takes and gives.

Above it stand those who have such commands (a workflow's scripts and shells, an agent's tools); below it the adapters.
It knows nothing of languages: a script is a command that reads a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

MEBIBYTE = 2**20
WORKSPACE = "/workspace"
"""Where a command begins: an empty folder of its own, or the one that it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a command and everything it starts may use together, unless said otherwise."""

    seconds: float = 60.0
    """Of real time."""
    memory_bytes: int = 512 * MEBIBYTE
    processes: int = 64
    output_bytes: int = MEBIBYTE
    """Kept of each of the two outputs; what comes after is dropped, and the command goes on."""
    file_bytes: int = 256 * MEBIBYTE
    """Largest file that can be written."""
    scratch_bytes: int = 256 * MEBIBYTE
    """What an own, empty workspace and `/tmp` hold, each."""

    def lasting(self, seconds: float) -> Limits:
        """Return the same limits with another time."""
        return replace(self, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to run."""

    arguments: tuple[str, ...]
    """The program, by path or by a name to be found in `/usr/bin` and its like, and its arguments."""
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """All that the command finds, beside PATH, HOME, LANG and TMPDIR: nothing of this process's own."""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Files to put into the workspace first, by relative path; they can be run."""
    workspace: Path | None = None
    """A folder to use and keep; None: an empty one that is gone afterwards."""
    readable: tuple[Path, ...] = ()
    """Further folders that the command sees, at the same path, and cannot change."""
    network: bool = False
    """Whether it may use the machine's network, all of it; otherwise it has none, not even loopback's other side."""
    limits: Limits = field(default_factory=Limits)


class Ending(Enum):
    """Why a command ended."""

    EXITED = "exited"
    """By itself, whatever its exit code."""
    TIME = "time"
    """It took longer than it might."""
    MEMORY = "memory"
    """It used more memory than it might."""
    PROCESSES = "processes"
    """It started more processes than it might."""
    DISMISSED = "dismissed"
    """All had been said, and it did not go by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of a command. Nothing that it started runs any more."""

    code: int
    """Exit code; 128 and the signal's number for one that a signal ended."""
    stdout: bytes
    stderr: bytes
    ending: Ending = Ending.EXITED
    truncated: bool = False
    """Whether some output was dropped."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipes:
    """What a command writes and reads, while it runs."""

    output: asyncio.StreamReader
    """Its stdout; at its end when the command is."""
    input: asyncio.StreamWriter
    """Its stdin."""


Talk = Callable[[Pipes], Awaitable[None]]
"""Talks with a command. It may be cancelled, when the command's time is over or it took too much."""


@runtime_checkable
class Sandbox(Protocol):
    """Runs commands so that they can harm neither the machine nor each other."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    async def check(self) -> None:
        """Find out whether commands can be run here, by running one.

        Raises:
            SandboxUnavailableError: They cannot; says why and what to do about it.
        """
        ...

    async def run(self, command: Command, talk: Talk | None = None) -> Finished:
        """Run a command to its end, which comes in any case when its time is over.

        A caller that is cancelled ends the command, and everything that it started, before it returns.

        Args:
            command: What to run.
            talk: Reads and writes the command's pipes while it runs; then its `stdin` is not given, and its stdout
                not kept. When it returns, the command's input is closed, and a moment later the command is ended.

        Raises:
            Exception: What `talk` raises.
            CommandError: The command cannot be begun: no such program, an unusable name or folder.
            SandboxUnavailableError: Commands cannot be run here.
        """
        ...
