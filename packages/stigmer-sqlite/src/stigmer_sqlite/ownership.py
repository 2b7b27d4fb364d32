"""One store at a time owns a database file.

The lock is the kernel's (`flock` on a file beside the database): it ends with the process however that ends,
it also holds between two stores of one process, and the file tells who has it.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from stigmer_sqlite.errors import InUseError


class Ownership:
    """The right to open one database file, held until `release`; a context manager that releases it."""

    def __init__(self, database: Path) -> None:
        """Take it. Raises: InUseError, OSError."""
        self.database = database
        path = database.with_name(database.name + ".lock")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).strip()
            self.release()
            raise InUseError(str(database), holder=int(holder) if holder.isdigit() else None) from None
        except BaseException:
            self.release()
            raise
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Give it up; again is harmless. The file stays, since removing it would race with the next owner."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


_held: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child shares the lock and would keep it after its parent's death; closing its copy frees nothing else.
    for ownership in list(_held):
        ownership.release()


os.register_at_fork(after_in_child=_forget_in_child)
