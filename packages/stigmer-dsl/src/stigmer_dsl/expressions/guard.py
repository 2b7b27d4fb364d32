"""Evaluation in a process of its own, for expressions whose work nothing bounds beforehand.

jq cannot be interrupted from inside a process, and ends the process when memory runs out. So an expression that could
do either runs in a child process with a limit on processor time and memory; the system ends the child when it passes
one, and the expression fails. Children start when first needed, are reused, and end with this process.
"""

import atexit
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

SECONDS = 0.5
"""Processor time that one evaluation may take."""
WALL_SECONDS = 20.0
"""Time on the clock that one evaluation may take, however busy the machine is."""
MEMORY = 1024 * 1024 * 1024
"""Bytes of address space that an evaluating process may have."""
PROCESSES = 4
"""The most children at once; further evaluations wait."""


tells: ContextVar[Callable[[], None] | None] = ContextVar("tells of evaluations", default=None)
"""Called for each evaluation of whoever sets it: it may have taken long, and how long is not to be known."""


class GuardError(Exception):
    """An evaluation passed a limit, or its process failed."""


class _Child:
    """One evaluating process."""

    def __init__(self) -> None:
        script = str(Path(__file__).with_name("_worker.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-I", script, str(SECONDS), str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            close_fds=True,
        )
        self.used = False

    def ask(self, program: str, document: str) -> tuple[bytes, str]:
        """Send a request and wait for its answer.

        Raises:
            GuardError: A limit was passed; this child is of no more use.
            BrokenPipeError: The child had ended before it was asked.
        """
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None  # noqa: S101 - opened above
        assert source is not None  # noqa: S101 - opened above
        frames = b"".join(struct.pack(">I", len(body)) + body for body in (program.encode(), document.encode()))
        sink.write(frames)
        sink.flush()
        deadline = time.monotonic() + WALL_SECONDS
        head = self._read(source.fileno(), 5, deadline)
        text = self._read(source.fileno(), struct.unpack(">I", head[1:])[0], deadline)
        self.used = True
        return head[:1], text.decode()

    def _read(self, descriptor: int, length: int, deadline: float) -> bytes:
        parts = bytearray()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(parts) < length:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise GuardError(f"it took more than {WALL_SECONDS:g} s")
            part = os.read(descriptor, min(length - len(parts), 1 << 20))
            if not part:
                raise GuardError(self._reason())
            parts += part
        return bytes(parts)

    def _reason(self) -> str:
        code = self._process.wait(5)
        if code == -signal.SIGPROF:
            return f"it took more than {SECONDS:g} s of processor time"
        return f"it needed more than {MEMORY // 2**20} MiB of memory"

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # what was not sent is of no interest any more
        self._process.wait()


class Guard:
    """A few evaluating processes, shared by the threads of this one."""

    def __init__(self) -> None:
        self._idle: list[_Child] = []
        self._slots = threading.BoundedSemaphore(PROCESSES)
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    def evaluate(self, program: str, document: str) -> tuple[bytes, str]:
        """The answer of the worker: `v` and JSON text, `n` for no value, `e` and the reason of an error.

        An empty document only compiles the program, and gives `n`.

        Raises:
            GuardError: The evaluation passed a limit.
        """
        with self._slots:
            while True:
                child = self._take()
                try:
                    answer = child.ask(program, document)
                except BrokenPipeError:
                    fresh = not child.used
                    child.end()
                    if fresh:
                        raise GuardError("its process could not be started") from None
                except BaseException:
                    child.end()
                    raise
                else:
                    self._idle.append(child)
                    return answer

    def _take(self) -> _Child:
        try:
            return self._idle.pop()
        except IndexError:
            return _Child()

    def _forget(self) -> None:
        self._idle = []
        self._slots = threading.BoundedSemaphore(PROCESSES)

    def close(self) -> None:
        """End the processes that are idle."""
        while self._idle:
            self._idle.pop().end()


_guard = Guard()


def evaluate(program: str, document: str) -> tuple[bytes, str]:
    """Evaluate in a watched process; see `Guard.evaluate`."""
    if (tell := tells.get()) is not None:
        tell()
    return _guard.evaluate(program, document)
