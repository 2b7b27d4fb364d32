"""Control groups: the kernel's own count of what a command and all that it started use (cgroups(7)).

Where this process may make groups, which root and services with a delegated group may, the kernel stops what is too
much before it begins. Elsewhere limits of the user and a look at /proc every so often have to do.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stigmer_sandbox.commands.port import Limits

_ROOT = Path("/sys/fs/cgroup")
_UNIFIED = _ROOT / "cgroup.controllers"
_ENTER = (
    'groups=$1; shift; while [ "$groups" -gt 0 ]; do echo $$ > "$1/cgroup.procs" || exit 125; '
    'shift; groups=$((groups - 1)); done; exec "$@"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups of one command; none where none can be made."""

    folders: tuple[Path, ...] = ()

    def entered(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Return how to run a program so that it is in the groups before it begins."""
        if not self.folders:
            return arguments
        return ("/bin/sh", "-c", _ENTER, "sh", str(len(self.folders)), *map(str, self.folders), *arguments)

    def out_of_memory(self) -> bool:
        """Tell whether the kernel has ended a process because all of them together took too much memory."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    for line in (folder / name).read_text(encoding="ascii").splitlines():
                        word, _, count = line.partition(" ")
                        if word == "oom_kill" and int(count) > 0:
                            return True
        return False


@contextmanager
def made(limits: Limits, *, own: int) -> Generator[Groups]:
    """Make groups with the limits for the length of a block, in which all that is in them must have ended.

    Args:
        limits: What may be used.
        own: How many processes are the sandbox's, and not the command's.
    """
    wanted = {"pids": ("pids.max", limits.processes + own)}
    if _UNIFIED.exists():
        folders = _unified({**wanted, "memory": ("memory.max", limits.memory_bytes)})
    else:
        folders = _separate({**wanted, "memory": ("memory.limit_in_bytes", limits.memory_bytes)})
    try:
        yield Groups(folders=tuple(folders))
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _separate(wanted: dict[str, tuple[str, int]]) -> list[Path]:
    """Make a group below this process's own in the hierarchy of each controller (version 1)."""
    places: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, place = line.split(":", 2)
        places |= dict.fromkeys(controllers.split(","), place)
    found: list[Path] = []
    for controller, (file, limit) in wanted.items():
        if controller in places:
            folder = _ROOT / controller / places[controller].lstrip("/") / _name()
            found += [folder] if _make(folder, {file: limit}) else []
    return found


def _unified(wanted: dict[str, tuple[str, int]]) -> list[Path]:
    """Make one group below this process's own (version 2), if the controllers are handed down to it."""
    place = Path("/proc/self/cgroup").read_text(encoding="utf-8").partition("::")[2].strip()
    parent = _ROOT / place.lstrip("/")
    try:
        handed = (parent / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except OSError:
        return []
    folder = parent / _name()
    limits = {file: limit for controller, (file, limit) in wanted.items() if controller in handed}
    return [folder] if limits and _make(folder, limits) else []


def _name() -> str:
    return f"stigmer-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _make(folder: Path, limits: dict[str, int]) -> bool:
    try:
        folder.mkdir()
        for file, limit in limits.items():
            (folder / file).write_text(str(limit), encoding="ascii")
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return False
    return os.access(folder / "cgroup.procs", os.W_OK)
