"""Processes of this machine, as /proc tells of them: what a command and its descendants use, and whether they run."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
_GONE = frozenset("ZXx")
"""States of a process that has ended and is still listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a tree of processes uses."""

    processes: int
    memory_bytes: int
    """Resident; pages that several of them share count for each."""


def use_of(root: int) -> Use:
    """Return what a process and its descendants use. Processes that end meanwhile do not count."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    memory: dict[int, int] = {}
    for process, fields in _processes():
        children[int(fields[1])].append(process)
        memory[process] = int(fields[21]) * _PAGE
    count, resident = 0, 0
    waiting = [root]
    while waiting:
        process = waiting.pop()
        if process in memory:
            count += 1
            resident += memory[process]
        waiting += children[process]
    return Use(processes=count, memory_bytes=resident)


def runs(process: int) -> bool:
    """Tell whether a process has not ended."""
    fields = _fields(process)
    return fields is not None and fields[0] not in _GONE


def session_runs(session: int) -> bool:
    """Tell whether a process of a session has not ended."""
    return any(int(fields[3]) == session and fields[0] not in _GONE for _, fields in _processes())


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (fields := _fields(int(entry.name))) is not None:
            yield int(entry.name), fields


def _fields(process: int) -> list[str] | None:
    """Return what /proc/PID/stat says from the third field on, None when there is no such process (any more)."""
    try:
        text = (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything; what follows the last one is numbers.
    return text[text.rindex(")") + 2 :].split()
