"""A command's process while it runs: fed, read, watched, and ended when it must be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from stigmer_sandbox.commands.port import Ending, Finished, Limits, Pipes, Talk
from stigmer_sandbox.commands.processes import use_of

_CHUNK = 64 * 1024
_LOOK_SECONDS = 0.05
_SELDOM_SECONDS = 0.25
_SETTLED_SECONDS = 10.0
"""After this a command that is talked with is looked at more seldom: it may last for days, and each look costs."""
_GONE_SECONDS = 10.0
_FAREWELL_SECONDS = 1.0
"""How long a command that was talked with has to go by itself."""
_SIGNALLED = 128
_BLOCK = 512


@dataclass(slots=True)
class _Output:
    limit: int
    kept: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def take(self, chunk: bytes) -> None:
        room = self.limit - len(self.kept)
        self.kept += chunk[:room]
        self.truncated = self.truncated or len(chunk) > room


def lowered(arguments: Sequence[str], limits: Limits, *, more: str = "") -> tuple[str, ...]:
    """Return a program behind a shell that lowers its limits for good, and does `more` before."""
    script = f'ulimit -c 0; ulimit -f {max(1, limits.file_bytes // _BLOCK)}; {more}exec "$@"'
    return ("/bin/sh", "-c", script, "sh", *arguments)


async def run_process(
    arguments: Sequence[str],
    *,
    stdin: bytes,
    environment: Mapping[str, str],
    limits: Limits,
    remains: Callable[[int], bool],
    own: int = 0,
    passed: Sequence[int] = (),
    folder: Path | None = None,
    talk: Talk | None = None,
) -> Finished:
    """Run a process to its end, or end it, and return when nothing of it runs any more.

    Args:
        arguments: The program and its arguments.
        stdin: What it reads.
        environment: All of its environment.
        limits: What it may use.
        remains: Given the process's id after its end: whether something that it started still runs.
        own: How many processes are the sandbox's, and not the command's.
        passed: Open files that it inherits.
        folder: Where it begins.
        talk: Talks with it; see `Sandbox.run`.

    Raises:
        OSError: It cannot be started.
    """
    began = time.monotonic()
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=folder,
            pass_fds=tuple(passed),
            start_new_session=True,
            limit=_CHUNK,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Half started, a process can be neither waited for nor ended for certain.
        await _end(await starting, remains, ())
        raise
    outputs = _Output(limits.output_bytes), _Output(limits.output_bytes)
    errors = asyncio.create_task(_read(process.stderr, outputs[1]))
    if talk is None:
        feeding = asyncio.create_task(_feed(process, stdin))
        helpers = [asyncio.create_task(_read(process.stdout, outputs[0])), errors]
        talking = None
    else:
        talking = feeding = asyncio.create_task(_talk(process, talk))
        helpers = [asyncio.create_task(_drain(process, talking)), errors]
    try:
        ending = await _watch(process, limits, own, talking)
    finally:
        # What a command said last, before it ended, is still to be heard by who talks with it.
        if talking is None or process.returncode is None:
            feeding.cancel()
        await asyncio.shield(asyncio.create_task(_end(process, remains, (feeding, *helpers))))
    if talking is not None and talking.done() and not talking.cancelled():
        talking.result()
    code = process.returncode or 0
    return Finished(
        code=code if code >= 0 else _SIGNALLED - code,
        stdout=bytes(outputs[0].kept),
        stderr=bytes(outputs[1].kept),
        ending=ending,
        truncated=any(output.truncated for output in outputs),
        seconds=time.monotonic() - began,
    )


async def _read(stream: asyncio.StreamReader | None, output: _Output) -> None:
    while stream is not None and (chunk := await stream.read(_CHUNK)):
        output.take(chunk)


async def _feed(process: asyncio.subprocess.Process, content: bytes) -> None:
    if process.stdin is None:
        return
    # A command need not read what it is given.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(content)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _talk(process: asyncio.subprocess.Process, talk: Talk) -> None:
    if process.stdout is None or process.stdin is None:
        return
    try:
        await talk(Pipes(output=process.stdout, input=process.stdin))
    finally:
        process.stdin.close()


async def _drain(process: asyncio.subprocess.Process, talking: asyncio.Task[None]) -> None:
    """Read what nobody listens to any more: a process does not count as ended while its pipe is full."""
    await asyncio.wait([talking])
    while process.stdout is not None and await process.stdout.read(_CHUNK):
        pass


async def _watch(
    process: asyncio.subprocess.Process, limits: Limits, own: int, talking: asyncio.Task[None] | None
) -> Ending:
    """Return when the process has ended, or as soon as a limit is passed, or all was said."""
    began = time.monotonic()
    until = began + limits.seconds
    ended = asyncio.ensure_future(process.wait())
    awaited = {ended} if talking is None else {ended, talking}
    try:
        while (left := until - time.monotonic()) > 0:
            settled = talking is not None and time.monotonic() - began > _SETTLED_SECONDS
            pause = _SELDOM_SECONDS if settled else _LOOK_SECONDS
            await asyncio.wait(awaited, timeout=min(pause, left), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and talking is not None and talking.done():
                if talking.exception() is None:
                    await asyncio.wait([ended], timeout=min(_FAREWELL_SECONDS, max(0.0, until - time.monotonic())))
                return Ending.EXITED if ended.done() else Ending.DISMISSED
            if ended.done():
                return Ending.EXITED
            use = await asyncio.to_thread(use_of, process.pid)
            if use.memory_bytes > limits.memory_bytes:
                return Ending.MEMORY
            if use.processes - own > limits.processes:
                return Ending.PROCESSES
        return Ending.TIME
    finally:
        ended.cancel()


async def _end(
    process: asyncio.subprocess.Process, remains: Callable[[int], bool], helpers: Sequence[asyncio.Task[None]]
) -> None:
    """End what still runs of the process's session, and wait until it is gone and all that it said was read."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    until = time.monotonic() + _GONE_SECONDS
    while await asyncio.to_thread(remains, process.pid):
        if time.monotonic() > until:
            logger.warning("something that a command started still runs, although it was killed")
            break
        await asyncio.sleep(0.001)
    if helpers:
        await asyncio.wait(helpers, timeout=1)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
