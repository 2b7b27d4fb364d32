"""The tokens of the stack, made before anything that needs them starts.

The server would make them too, but only when it has been loaded; the runners start beside it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from stigmer_cli.environment import Home

_RANDOM_BYTES = 32


def make_tokens(home: Home) -> None:
    """Make the files of the operator's and the runners' token, for their owner alone, where they are not there yet."""
    for path, prefix in ((home.token, "sto"), (home.runner_token, "str")):
        _make(path, f"{prefix}_{secrets.token_urlsafe(_RANDOM_BYTES)}")


def _make(path: Path, token: str) -> None:
    if path.exists():
        return
    # Under its final name only when it is complete: other commands may look for it at any moment.
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()
