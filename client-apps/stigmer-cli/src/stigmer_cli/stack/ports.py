"""Free ports on loopback."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import tempfile
from pathlib import Path

LOOPBACK = "127.0.0.1"
_claims: list[int] = []
"""Open lock files; the kernel lets go of them with the process."""
_held: list[int] = []
"""Sockets that are bound to the ports that were chosen, and listen nowhere: the kernel gives such a port to nobody by
chance, while the server that it was chosen for can still listen there."""


def choose_port(preferred: int) -> int:
    """Return `preferred` when nothing listens there and no stack has claimed it, else a port that is free now.

    Between choosing a port and listening on it lie seconds in which another stack may start, so a preferred port is
    claimed for the life of this process, and any port is held where the system allows that.
    """
    for port in (preferred, 0) if preferred and _claim(preferred) else (0,):
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # As servers bind: a connection of the last owner that still lingers is no obstacle, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            probe.close()
            continue
        chosen = int(probe.getsockname()[1])
        if sys.platform == "linux":
            _held.append(probe.detach())
        else:
            probe.close()  # elsewhere it would be in the server's way
        return chosen
    msg = "this machine has no free port on loopback"
    raise OSError(msg)


def _claim(port: int) -> bool:
    """Claim a port among the stacks of this user, whatever their homes; False if another has."""
    file = Path(tempfile.gettempdir()) / f"stigmer-{os.getuid()}-port-{port}.lock"
    try:
        lock = os.open(file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except OSError:
        return True  # where nothing can be claimed, the first to listen has it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _claims.append(lock)
    return True
