"""The power fails: whatever was written and not synced is gone, and nothing that was acknowledged was in it.

The kernel is watched with strace, which says for each byte of the write-ahead log whether a sync came after it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from stigmer_grpc import UnavailableError
from stigmer_server.testing import Api, ServerProcess, manifest

WRITERS = 8
TRACED = "pwrite64,fdatasync,fsync,ftruncate"
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
_WRITE = re.compile(r"^\d+<(.*?)>, .*, (\d+), (\d+)(?:\) = \d+| <unfinished \.\.\.>)$")
_FILE = re.compile(r"^\d+<(.*?)>")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to see what the kernel was asked to sync")
async def test_what_was_acknowledged_was_synced_before(
    tmp_path: Path, server: Callable[..., ServerProcess], rounds: Callable[..., int], figures: Callable[..., None]
) -> None:
    acknowledged: set[str] = set()
    dropped = 0
    count = rounds(short=2, full=25)
    for number in range(count):
        process = server()
        await process.ready()
        trace = tmp_path / f"trace{number}"
        command = ("strace", "-f", "-y", "-q", "-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(trace))
        tracer = await asyncio.create_subprocess_exec(
            *command, "-p", str(process.process.pid), stderr=asyncio.subprocess.PIPE
        )
        writers = [asyncio.create_task(create(process.client(), acknowledged)) for _ in range(WRITERS)]
        until = len(acknowledged) + 60 + number % 5 * 30
        async with asyncio.timeout(120):
            while len(acknowledged) < until:
                done, _ = await asyncio.wait(writers, timeout=0.002)
                assert not done, [writer.exception() for writer in done]
        await process.kill()
        await asyncio.gather(*writers)
        await asyncio.wait_for(tracer.wait(), 30)
        await process.close()
        dropped += cut(tmp_path / "stigmer.db-wal", trace)
        check(tmp_path / "stigmer.db", acknowledged)
    figures(cuts=count, acknowledged=len(acknowledged), unsynced=f"{dropped} bytes dropped")


async def create(api: Api, acknowledged: set[str]) -> None:
    try:
        while True:
            spec = {"instructions": f"Answer every question in one sentence. {os.urandom(400).hex()}"}
            made = await api("agent", "create", manifest("agent", f"agent {os.urandom(8).hex()}", spec))
            acknowledged.add(made.metadata.id)
    except UnavailableError:
        return


def cut(log: Path, trace: Path) -> int:
    """Take from the log what no sync came after, as a power cut would, and return how much that was."""
    synced, written = synced_end(trace, log)
    size = log.stat().st_size
    assert synced > 0, "the trace shows no sync of the log"
    with log.open("r+b") as file:
        file.truncate(min(size, synced))
    return max(0, min(size, written) - synced)


def synced_end(trace: Path, log: Path) -> tuple[int, int]:
    """Return the end of what is synced of the log, and of what was written, in the order in which calls began.

    A sync that the process did not see the end of counts for nothing.
    """
    synced = written = 0
    begun: dict[str, int] = {}
    for line in trace.read_text(errors="replace").splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        thread, call, rest = found.groups()
        resumed = "resumed>" in line
        if call == "pwrite64" and not resumed and (write := _WRITE.match(rest)) is not None:
            if Path(write[1]) == log:
                written = max(written, int(write[3]) + int(write[2]))
        elif call in ("fdatasync", "fsync"):
            name = _FILE.match(rest)
            if not resumed and name is not None and Path(name[1]) == log:
                if rest.endswith("= 0"):
                    synced = max(synced, written)
                else:
                    begun[thread] = written
            elif resumed and thread in begun:
                end = begun.pop(thread)
                if rest.endswith("= 0"):
                    synced = max(synced, end)
    return synced, written


def check(path: Path, acknowledged: set[str]) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = {row[0] for row in database.execute("SELECT id FROM resources WHERE kind = 'agent'")}
        # Everything is in the database file now, so the next log begins anew and its trace tells all of it.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    assert acknowledged <= stored, f"{len(acknowledged - stored)} acknowledged agents are lost"
