"""The lock that says which process owns the stack and its database.

The kernel holds it for the life of the owner, so that no crash leaves it behind; the text in the file only names the
owner.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GLANCE_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that owns the stack."""

    pid: int
    command: str
    """What it was started as, such as `stigmer up`."""
    started_at: str
    """RFC 3339, UTC."""


class StackLock:
    """An exclusive claim on a home folder. `acquire` and `release` may be called by one process only once each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, holder: Holder) -> bool:
        """Take the lock and write who took it; False, and nothing changed, when another process has it."""
        descriptor = _open(self._path)
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        text = json.dumps({"pid": holder.pid, "command": holder.command, "started_at": holder.started_at})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back; the file stays, since removing it would let two processes lock two files."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def find_holder(path: Path) -> Holder | None:
    """Return the process that holds the lock at this moment, None when it is free."""
    if not path.exists():
        return None
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock; patient for a moment, since whoever asks for its holder has it for an instant too."""
    deadline = time.monotonic() + GLANCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(GLANCE_SECONDS / 10)
        else:
            return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _read_holder(descriptor: int) -> Holder:
    """Read who holds it; a holder that has not written its name yet, or is just leaving, has pid 0."""
    content: dict[str, Any] = {}
    with suppress(ValueError):
        content = json.loads(os.pread(descriptor, 4096, 0))
    return Holder(
        pid=int(content.get("pid", 0)),
        command=str(content.get("command", "stigmer")),
        started_at=str(content.get("started_at", "")),
    )
