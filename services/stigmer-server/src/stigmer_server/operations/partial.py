"""Work in progress: folders that get their name, or are gone, when what is made in them is complete."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_MARK = ".partial-"


@contextmanager
def partial_folder(beside: Path) -> Generator[Path]:
    """Make a folder, for its owner only, to work in beside the place of the result; it is removed at the end.

    What processes that were killed have left there is removed as well.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    for left in beside.parent.glob(f".{glob.escape(beside.name)}{_MARK}*"):
        owner = left.name.rpartition(_MARK)[2]
        if not (owner.isdecimal() and _is_alive(int(owner))) or int(owner) == os.getpid():
            shutil.rmtree(left, ignore_errors=True)
    folder = beside.with_name(f".{beside.name}{_MARK}{os.getpid()}")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
