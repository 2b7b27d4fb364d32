"""Files and folders, as far as what is in them must outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Wait until the disk has the file's present content. Raises: OSError."""
    _sync(path)


def sync_folder(path: Path) -> None:
    """Wait until the disk knows the folder's present entries. Raises: OSError."""
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
