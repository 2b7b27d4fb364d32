"""A server that stands still, as a suspended machine does: what it says after that is true."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from stigmer_grpc import AbortedError, DeadlineExceededError
from stigmer_server.testing import ServerProcess, manifest

Start = Callable[..., ServerProcess]
Rounds = Callable[..., int]
Figures = Callable[..., None]
AGENT = {"instructions": "Answer every question in one sentence."}


async def test_after_standing_still_it_promises_nothing_that_is_stale(
    tmp_path: Path, server: Start, rounds: Rounds, figures: Figures
) -> None:
    seconds = rounds(short=1, full=30)
    process = server()
    api = await process.ready()
    made = await api("agent", "create", manifest("agent", "Before", AGENT))
    process.process.send_signal(signal.SIGSTOP)
    sent = manifest("agent", "Meanwhile", AGENT)
    try:
        with pytest.raises(DeadlineExceededError):
            await api("agent", "create", sent, timeout=seconds)
    finally:
        process.process.send_signal(signal.SIGCONT)
    # The call whose caller has left was carried out, or not at all; either way the server knows which.
    again = await api("agent", "apply", sent, timeout=20)
    assert (await api("agent", "get", {"value": again.metadata.id})).metadata.slug == "meanwhile"
    updated = await api("agent", "get", {"value": made.metadata.id})
    updated.spec.instructions = "Answer in two sentences."
    await api("agent", "update", updated)
    with pytest.raises(AbortedError):
        await api("agent", "update", made)
    with closing(sqlite3.connect(tmp_path / "stigmer.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    figures(stood_still_seconds=seconds)
