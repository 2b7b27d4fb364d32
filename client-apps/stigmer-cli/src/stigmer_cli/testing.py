"""For tests: the command with a home of its own, driven from outside as a person drives it, and a web site to call."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATIENCE = 60.0
_OURS = ("STIGMER_", "TEMPORAL_", "GRPC_", "DB_PATH", "STORAGE_PATH", "LOG_LEVEL", "ENV")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cli:
    """The `stigmer` command with a home of its own."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables it runs with: no setting of ours but the home."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {**inherited, "STIGMER_HOME": str(self.home), "HOME": str(self.home.parent), "NO_PROXY": "*"}

    def run(self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "stigmer_cli", *arguments],
            env={**self.environment, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Result(code=done.returncode, out=done.stdout, err=done.stderr)

    def start(self, *arguments: str) -> Running:
        """Begin a command in a session of its own, as a terminal does."""
        _heed_interrupts()
        process = subprocess.Popen(
            [sys.executable, "-m", "stigmer_cli", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return Running(process)

    def type(self, *arguments: str) -> Terminal:
        """Begin a command on a terminal, as a person does who types what it asks for."""
        import pty

        _heed_interrupts()
        pid, number = pty.fork()
        if not pid:
            command = [sys.executable, "-m", "stigmer_cli", *arguments]
            os.execve(sys.executable, command, {**self.environment, "NO_COLOR": "1", "TERM": "dumb"})  # noqa: S606 - our own command
        return Terminal(pid, number)

    def processes(self) -> dict[int, str]:
        """Every living process of this home, known by the environment it inherited: its command line by its id."""
        mark = f"STIGMER_HOME={self.home}".encode()
        found: dict[int, str] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with suppress(OSError, IndexError):
                alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
                if alive and mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def until_gone(self) -> None:
        """Wait until no process of this home is left."""
        wait_until(lambda: not self.processes(), lambda: f"left behind: {self.processes()}")

    def status(self) -> dict[str, Any]:
        """Return what `stigmer status` says."""
        return json.loads(self.run("status", "-o", "json").out)

    def component(self, name: str) -> dict[str, Any]:
        """Return what `stigmer status` says of one component."""
        return next(item for item in self.status()["components"] if item["name"] == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed to standard output, read as JSON."""
        return json.loads(self.out)


def _heed_interrupts() -> None:
    """Have children hear of Ctrl-C: shells ignore it in what they run in the background, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Running:
    """A command that was started and goes on; what it prints is collected."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._collect, args=(stream, lines), daemon=True)
            for stream, lines in ((process.stdout, self.out), (process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def until_said(self, text: str) -> None:
        """Wait until it has printed the text, on either stream."""
        wait_until(
            lambda: any(text in line for line in [*self.out, *self.err]) or self.process.poll() is not None,
            lambda: f"never said {text!r}: {self.out} {self.err}",
        )
        if not any(text in line for line in [*self.out, *self.err]):
            msg = f"ended without saying {text!r}: {self.err}"
            raise AssertionError(msg)

    def interrupt(self) -> None:
        """Press Ctrl-C: the terminal sends SIGINT to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> Result:
        """Wait for its end."""
        code = self.process.wait(timeout=PATIENCE)
        for reader in self._readers:
            reader.join(timeout=PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return Result(code=code, out="".join(self.out), err="".join(self.err))

    def _collect(self, stream: Any, lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, pid: int, number: int) -> None:
        self._pid = pid
        self._number = number
        self.screen = ""

    def until(self, text: str) -> None:
        """Read until the text has been on the screen; what came before it is not looked at again."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.screen:
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                msg = f"never saw {text!r}: {self.screen}"
                raise AssertionError(msg)
        self.screen = self.screen.partition(text)[2]

    def type(self, text: str) -> None:
        """Type, without an end of the line unless the text has one."""
        os.write(self._number, text.encode())

    def end(self) -> int:
        """Read until the command ends; return its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline - time.monotonic()):
            pass
        os.close(self._number)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        """Put what comes next on the screen; False when nothing does."""
        if not select.select([self._number], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self._number, 65536)
        except OSError:  # the other end is gone
            return False
        self.screen += data.decode("utf-8", "replace")
        return bool(data)


class CountingSite:
    """A web site on loopback that counts what it is asked, and answers slow paths only when told to."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.gate = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.calls[self.path] += 1
                if self.path.startswith("/gated"):
                    site.gate.wait(PATIENCE)
                body = json.dumps({"path": self.path, "count": site.calls[self.path]}).encode()
                with suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer whoever still waits, and stop."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


def wait_until(condition: Callable[[], object], complaint: Callable[[], str]) -> None:
    """Poll, since what is waited for happens in another process, and fail when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(complaint())
        time.sleep(0.05)
