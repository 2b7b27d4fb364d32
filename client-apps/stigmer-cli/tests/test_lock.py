from __future__ import annotations

import os
import subprocess
import sys

from stigmer_cli.environment import Home
from stigmer_cli.stack.lock import Holder, StackLock, find_holder

HOLDER = Holder(pid=os.getpid(), command="stigmer up", started_at="2026-01-01T00:00:00.000Z")


def test_the_second_claim_fails_and_the_holder_is_named(home: Home) -> None:
    first, second = StackLock(home.lock), StackLock(home.lock)
    assert first.acquire(HOLDER)
    assert not second.acquire(HOLDER)
    assert find_holder(home.lock) == HOLDER
    first.release()
    assert find_holder(home.lock) is None
    assert second.acquire(HOLDER)
    second.release()


def test_a_home_never_used_has_no_holder(home: Home) -> None:
    assert find_holder(home.lock) is None
    assert not home.lock.exists()


def test_a_holder_that_was_killed_holds_nothing(home: Home) -> None:
    program = (
        "import os, sys, signal; from pathlib import Path; from stigmer_cli.stack.lock import *\n"
        "assert StackLock(Path(sys.argv[1])).acquire(Holder(pid=os.getpid(), command='stigmer up', started_at=''))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(home.lock)], check=False)
    assert ended.returncode == -9
    assert find_holder(home.lock) is None


def test_the_lock_file_is_private(home: Home) -> None:
    lock = StackLock(home.lock)
    lock.acquire(HOLDER)
    assert home.lock.stat().st_mode & 0o777 == 0o600
    lock.release()
