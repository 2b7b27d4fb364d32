"""The guard: ends every process of a stack when the process that owns the stack is gone, however it went.

A program of its own, run as `python -I -S guard.py SECONDS` and started before anything else. It leads the process
group that all children of the stack join, and its standard input is a pipe whose other end only the owner holds. When
that pipe closes, the group gets SIGTERM, and SIGKILL after SECONDS if anyone is left. Nothing but the standard library
is loaded here, so that the guard costs little and cannot fail with the rest.
"""

import os
import signal
import subprocess
import sys
import time

POLL_SECONDS = 0.02


def members(group: int) -> int:
    """Count the living processes of the group besides this one; a zombie is not living."""
    count = 0
    for pid, pgid, state in _processes():
        if pgid == group and pid != os.getpid() and not state.startswith("Z"):
            count += 1
    return count


def _processes() -> "list[tuple[int, int, str]]":
    if os.path.isdir("/proc/self"):  # noqa: PTH112 - pathlib would triple the guard's start
        return [found for name in os.listdir("/proc") if name.isdigit() for found in _from_proc(name)]  # noqa: PTH208
    listing = subprocess.run(["/bin/ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=False)
    rows = (line.split() for line in listing.stdout.splitlines())
    return [(int(row[0]), int(row[1]), row[2]) for row in rows if len(row) == 3]


def _from_proc(pid: str) -> "list[tuple[int, int, str]]":
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            # The command's name stands in parentheses and may hold anything, even parentheses and blanks.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return []
    return [(int(pid), int(fields[2]), fields[0])]


def end(group: int, seconds: float) -> None:
    """End the group: politely, and after `seconds` for certain, this process included."""
    os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while members(group):
        if time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def main() -> None:
    """Wait for the owner's end, then end its children."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while os.read(0, 1024):
        pass
    group = os.getpgrp()
    if members(group):
        end(group, float(sys.argv[1]))


if __name__ == "__main__":
    main()
