"""The program that runs one command where this machine's kernel cannot be asked: in a container, or far away.

Its text is given to the Python that is there, so it stands alone: the standard library, no newer than 3.8. Whoever
starts it writes a request, which no list of processes shows, and what the command is to read after it:

    length of the JSON in eight hexadecimal digits | JSON | stdin of the command

`run ID`            reads the request from its stdin; `run ID FILE` from a file, which is removed at once
`end ID`            ends the command of that id, and everything that it started
`keep SECONDS MOST` keeps a container alive while it is used: until it was not for so long, or it is so old

It says that it has begun, runs the command, ends everything that the command started, also what tried to get away, and
then tells on its stdout what became of it. With `talk` in the request, stdout is the command's instead.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

BEGUN = "begun\n"
_PLACE = "/tmp/.stigmer-"  # noqa: S108 - of the container, or of the one who has the sandbox
_SUBREAPER = 36
_LOOK_SECONDS = 0.05
_SELDOM_SECONDS = 0.25
_SETTLED_SECONDS = 10.0
_GONE_SECONDS = 10.0
_SIGNALLED = 128
_CHUNK = 65536
_DEEPEST = 100


def run(identifier: str, source: int) -> None:
    """Run the command of a request, and tell of it."""
    request = json.loads(_exactly(source, int(_exactly(source, 8), 16)))
    # It was ended before it began.
    if Path(f"{_PLACE}ended-{identifier}").exists():
        return
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopped.set())
    # What loses its parent becomes a child of this process, and cannot get away by that.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    _used()
    if not request["talk"]:
        _say(BEGUN)
    report = _run(request, source, stopped)
    _used()
    if request["talk"]:
        sys.exit(report["code"])
    _say(json.dumps(report))


def _run(request: dict[str, Any], source: int, stopped: threading.Event) -> dict[str, Any]:
    began = time.monotonic()
    stdout = None if request["talk"] else subprocess.PIPE
    # Of this process, which writes no files, and of all that it starts.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], request["file_bytes"]))
    try:
        # A command before this one may have removed it.
        os.makedirs(request["folder"], exist_ok=True)  # noqa: PTH103 - as everywhere here
        process = subprocess.Popen(
            request["arguments"],
            cwd=request["folder"],
            env={**os.environ, **request["environment"]},
            stdin=source,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return {"code": 127, "refused": f"{request['arguments'][0]!r} cannot be begun: {error}"}
    outputs = [_Output(stream, request["output_bytes"]) for stream in (process.stdout, process.stderr)]
    ending = _watch(process, request, stopped, began)
    if ending != "exited":
        process.kill()
    code = process.wait()
    _end()
    for output in outputs:
        output.join(1)
    if request["talk"]:
        sys.stderr.buffer.write(outputs[1].kept)
    return {
        "code": code if code >= 0 else _SIGNALLED - code,
        "ending": ending,
        "stdout": base64.b64encode(outputs[0].kept).decode(),
        "stderr": base64.b64encode(outputs[1].kept).decode(),
        "truncated": any(output.truncated for output in outputs),
        "seconds": time.monotonic() - began,
        "held": held(request["folder"]) if request.get("measure") else 0,
    }


class _Output(threading.Thread):
    """Reads all that a stream gives, and keeps the beginning."""

    def __init__(self, stream: Any, most: int) -> None:
        super().__init__(daemon=True)
        self.kept = bytearray()
        self.truncated = False
        self._stream = stream
        self._most = most
        if stream is not None:
            self.start()

    def run(self) -> None:
        while True:
            chunk = os.read(self._stream.fileno(), _CHUNK)
            if not chunk:
                return
            room = self._most - len(self.kept)
            self.kept += chunk[:room]
            self.truncated = self.truncated or len(chunk) > room

    def join(self, timeout: float | None = None) -> None:
        if self._stream is not None:
            super().join(timeout)


def _watch(process: Any, request: dict[str, Any], stopped: threading.Event, began: float) -> str:
    until = began + request["seconds"] if request["seconds"] else float("inf")
    while True:
        pause = _LOOK_SECONDS if time.monotonic() - began < _SETTLED_SECONDS else _SELDOM_SECONDS
        try:
            process.wait(max(0.001, min(pause, until - time.monotonic())))
            return "exited"
        except subprocess.TimeoutExpired:
            pass
        if stopped.is_set() or time.monotonic() >= until:
            return "time"
        processes, memory = _use()
        if memory > request["memory_bytes"]:
            return "memory"
        if processes > request["processes"]:
            return "processes"


def _use() -> tuple[int, int]:
    """How many descendants there are, and what memory they take."""
    found = _descendants()
    return len(found), sum(found.values()) * resource.getpagesize()


def _descendants() -> dict[int, int]:
    """The memory, in pages, of each process that comes from this one and has not ended."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int | None] = {}
    for process in _processes():
        try:
            # The name, in parentheses, may hold anything.
            fields = Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(process)
        pages[process] = None if fields[0] in "ZXx" else int(fields[21])
    found: dict[int, int] = {}
    waiting = list(children.get(os.getpid(), ()))
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, ())
        resident = pages[process]
        if resident is not None:
            found[process] = resident
    return found


def _end() -> None:
    """End everything that comes from this process, however often it starts more."""
    until = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < until:
        for process in _descendants():
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def held(folder: str) -> int:
    """How many bytes the files below a folder take; more than any, when folders are too deep to be looked into."""
    total = 0
    for parent, folders, names, opened in os.fwalk(folder) if os.path.isdir(folder) else ():  # noqa: PTH112 - see above
        if folders and parent[len(folder) :].count("/") == _DEEPEST:
            return sys.maxsize
        for name in names:
            try:
                total += os.stat(name, dir_fd=opened, follow_symlinks=False).st_size
            except OSError:
                continue
    return total


def end(identifier: str) -> None:
    """End a command, or see to it that it does not begin."""
    _touch(_PLACE + "ended-" + identifier)
    until = time.monotonic() + _GONE_SECONDS + 5
    while time.monotonic() < until:
        found = [process for process in _processes() if _is(process, identifier)]
        if not found:
            return
        for process in found:
            try:
                os.kill(process, signal.SIGTERM)
            except OSError:
                continue
        time.sleep(0.02)
    sys.exit(1)


def _is(process: int, identifier: str) -> bool:
    words = _words(process)
    return b"run" in words and identifier.encode() in words


def keep(seconds: float, most: float) -> None:
    """Return when nothing was run for so many seconds, or after so many at most."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    _used()
    began = time.time()
    while time.time() < began + most:
        try:
            idle = time.time() - Path(_PLACE + "used").stat().st_mtime
        except OSError:
            idle = time.time() - began
        # A command that runs has this process's container in use, however long ago it began.
        if idle > seconds and not _is_busy():
            return
        time.sleep(max(0.05, min(10.0, seconds / 4)))


def _is_busy() -> bool:
    return any(words[2:3] == [b"-c"] and words[4:5] == [b"run"] for words in map(_words, _processes()))


def _words(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _used() -> None:
    try:
        _touch(_PLACE + "used")
    except OSError:
        return


def _touch(name: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    os.utime(name)


def _exactly(source: int, length: int) -> bytes:
    content = b""
    while len(content) < length:
        chunk = os.read(source, length - len(content))
        if not chunk:
            sys.exit("the request is cut off")
        content += chunk
    return content


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _opened(name: str) -> int:
    opened = os.open(name, os.O_RDONLY)
    Path(name).unlink()
    return opened


if __name__ == "__main__":
    _verb, _rest = sys.argv[1], sys.argv[2:]
    if _verb == "run":
        run(_rest[0], _opened(_rest[1]) if _rest[1:] else 0)
    elif _verb == "end":
        end(_rest[0])
    elif _verb == "keep":
        keep(float(_rest[0]), float(_rest[1]))
