"""Real processes under a real guard."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest
from stigmer_cli.errors import UnavailableError
from stigmer_cli.stack.child import Child, ChildSpec
from stigmer_cli.stack.guarding import Guard
from stigmer_cli.stack.logs import RotatingLog, tail
from stigmer_cli.stack.restarts import RestartPolicy
from stigmer_cli.stack.state import ComponentState

SLEEPER = "print('up', flush=True); import time; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER


class Supervised:
    """A child that runs Python code and serves once it has written a line."""

    def __init__(self, folder: Path, guard: Guard, code: str, policy: RestartPolicy, stop_seconds: float) -> None:
        self.log = RotatingLog(folder / "child.log")
        self.changed = asyncio.Event()

        async def is_ready(_: datetime) -> bool:
            return "up" in tail(self.log.path, 1)

        spec = ChildSpec(
            name="child",
            command=(sys.executable, "-c", code),
            environment=dict(os.environ),
            is_ready=is_ready,
            stop_seconds=stop_seconds,
        )
        self.child = Child(spec, group=guard.pid, log=self.log, on_change=self.changed.set, policy=policy)

    async def until(self, state: ComponentState, restarts: int = 0) -> None:
        async with asyncio.timeout(20):
            while self.child.status.state is not state or self.child.status.restarts < restarts:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def supervise(
    folder: Path, code: str, *, policy: RestartPolicy | None = None, stop_seconds: float = 10.0
) -> AsyncGenerator[Supervised]:
    guard = await Guard.start()
    supervised = Supervised(folder, guard, code, policy or RestartPolicy(first_delay=0.01), stop_seconds)
    supervised.child.start()
    try:
        yield supervised
    finally:
        await supervised.child.stop()
        await guard.release()


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    async with supervise(tmp_path, SLEEPER) as supervised:
        async with asyncio.timeout(20):
            await supervised.child.ready()
        pid = supervised.child.status.pid
        os.kill(pid, signal.SIGKILL)
        await supervised.until(ComponentState.RUNNING, restarts=1)
        assert supervised.child.status.pid not in {0, pid}


async def test_a_crash_loop_reaches_its_limit_and_stays_down(tmp_path: Path) -> None:
    code = "print('sorry', flush=True); raise SystemExit(3)"
    async with supervise(tmp_path, code, policy=RestartPolicy(limit=2, first_delay=0.01)) as supervised:
        await supervised.until(ComponentState.FAILED)
        status = supervised.child.status
        assert (status.restarts, status.pid) == (2, 0)
        assert "exit code 3" in status.detail
        with pytest.raises(UnavailableError, match="sorry"):
            await supervised.child.ready()
        with pytest.raises(UnavailableError, match="child does not run"):
            await supervised.child.failed()


async def test_a_start_that_never_serves_is_given_up_on_before_the_limit(tmp_path: Path) -> None:
    async with supervise(tmp_path, "raise SystemExit('no')", policy=RestartPolicy(limit=99, first_delay=0.01)) as made:
        async with asyncio.timeout(20):
            with pytest.raises(UnavailableError, match="does not run"):
                await made.child.ready()


async def test_a_program_that_does_not_exist_fails_like_one_that_ends(tmp_path: Path) -> None:
    guard = await Guard.start()

    async def never(_: datetime) -> bool:
        return False

    spec = ChildSpec(name="child", command=("/no/such/program",), environment={}, is_ready=never)
    log = RotatingLog(tmp_path / "child.log")
    policy = RestartPolicy(limit=1, first_delay=0.01)
    child = Child(spec, group=guard.pid, log=log, on_change=lambda: None, policy=policy)
    child.start()
    async with asyncio.timeout(20):
        with pytest.raises(UnavailableError, match="No such file"):
            await child.ready()
    await child.stop()
    await guard.release()


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async with supervise(tmp_path, STUBBORN, stop_seconds=0.2) as supervised:
        async with asyncio.timeout(20):
            await supervised.child.ready()
        pid = supervised.child.status.pid
        await supervised.child.stop()
        assert supervised.child.status.state is ComponentState.STOPPED
        assert not is_alive(pid)


@pytest.mark.parametrize("code", [SLEEPER, STUBBORN], ids=["polite", "stubborn"])
def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path, code: str) -> None:
    program = f"""
import asyncio, os, signal, sys
from stigmer_cli.stack import guarding
guarding.TERM_SECONDS = 0.3
async def main():
    guard = await guarding.Guard.start()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", {code!r}, process_group=guard.pid, stdout=asyncio.subprocess.PIPE)
    await child.stdout.readline()
    print(guard.pid, child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    owner = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    pids = [int(pid) for pid in owner.stdout.split()]
    assert len(pids) == 2, owner.stderr
    for pid in pids:
        _wait_until_gone(pid)


def _wait_until_gone(pid: int) -> None:
    waiting = "import sys,time,pathlib\np=pathlib.Path('/proc')/sys.argv[1]/'stat'\n" + (
        "while p.exists() and p.read_text().rpartition(')')[2].split()[0] != 'Z': time.sleep(0.02)"
    )
    subprocess.run([sys.executable, "-c", waiting, str(pid)], timeout=20, check=False)
    assert not is_alive(pid)
