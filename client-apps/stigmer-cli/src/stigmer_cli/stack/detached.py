"""A stack in the background: started so that it outlives the terminal, found again, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from stigmer_cli.environment import Auth, Environment
from stigmer_cli.errors import ConflictError, UnavailableError
from stigmer_cli.stack.lock import Holder, find_holder
from stigmer_cli.stack.logs import tail
from stigmer_cli.stack.probes import POLL_SECONDS
from stigmer_cli.stack.state import StackStatus, read_status

START_SECONDS = 60.0
STOP_SECONDS = 40.0
"""Longer than all that a stack may take to end its components one after the other."""
_LOG = "stack"


async def start_detached(environment: Environment, *, auth: Auth = "token") -> tuple[StackStatus, bool]:
    """Return the stack that runs in this home, and whether it ran before; else start one and wait until it serves.

    Args:
        environment: Where the home is, and what the stack's processes inherit.
        auth: Whom the server of a stack that is started lets in; see `Stack`.

    Raises:
        ConflictError: The stack belongs to a command that will end it, such as `stigmer run`.
        UnavailableError: It did not come up.
    """
    home = environment.home
    home.create()
    if holder := find_holder(home.lock):
        return await _existing(environment, holder), True
    with (home.logs / f"{_LOG}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it must outlive this loop, and is started in no time
            [sys.executable, "-m", "stigmer_cli", "up", "--auth", auth],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=dict(environment.variables),
        )
    try:
        status = await _until_ready(environment, process)
    except asyncio.CancelledError:
        process.terminate()
        raise
    if status is not None:
        return status, False
    ended = process.poll()
    process.terminate()
    told = "".join(f"\n    {line}" for line in tail(home.logs / f"{_LOG}.log", 8))
    msg = f"the stack did not come up ({f'exit code {ended}' if ended is not None else f'{START_SECONDS:g} s'}){told}"
    raise UnavailableError(msg, hint="`stigmer logs` tells more")


async def _until_ready(environment: Environment, process: subprocess.Popen[bytes]) -> StackStatus | None:
    """Return the status of the started stack when all of it serves, None when it ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        status = read_status(environment.home.state)
        if status is not None and status.pid == process.pid and status.ready:
            return status
        await asyncio.sleep(POLL_SECONDS)
    return None


async def stop(environment: Environment) -> Holder | None:
    """End the stack of this home and wait until all of it is gone; None when none runs.

    Raises:
        UnavailableError: Something of it is still there.
    """
    home = environment.home
    holder = find_holder(home.lock)
    if holder is None or not holder.pid:
        return None
    status = read_status(home.state)
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 10.0)):
        with suppress(ProcessLookupError):
            os.kill(holder.pid, number)
        if await _gone(environment, holder, status, seconds):
            return holder
    msg = f"process {holder.pid} or one of its children is still there"
    raise UnavailableError(msg, hint="`stigmer status` shows which")


async def _existing(environment: Environment, holder: Holder) -> StackStatus:
    deadline = time.monotonic() + START_SECONDS
    while holder.command == "stigmer up" and time.monotonic() < deadline:
        status = read_status(environment.home.state)
        if status is not None and status.pid == holder.pid and status.ready:
            return status
        await asyncio.sleep(POLL_SECONDS)
        if find_holder(environment.home.lock) != holder:
            break
    msg = f"the stack belongs to `{holder.command}`, process {holder.pid}"
    raise ConflictError(msg, hint="wait until it is done, or end it with `stigmer down`")


async def _gone(environment: Environment, holder: Holder, status: StackStatus | None, seconds: float) -> bool:
    """Wait until the owner has let go of the lock and its processes have ended; False when time is up."""
    pids = [holder.pid, *([status.guard_pid, *(item.pid for item in status.components)] if status else [])]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if find_holder(environment.home.lock) != holder and not any(is_alive(pid) for pid in pids if pid):
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs; one that ended and was not collected by its parent does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - as the guard does
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return sys.platform != "linux"
