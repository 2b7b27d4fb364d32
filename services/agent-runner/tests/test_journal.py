"""The journal under many turns at once, of one worker and of two."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent_runner.turn.journal import Journal, Turn
from agent_runner.turn.usage import Usage


async def test_turns_that_read_and_write_at_once_in_two_workers_never_find_it_locked(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with Journal.open(path) as first, Journal.open(path) as second:

        async def turn(journal: Journal, name: str) -> None:
            for number in range(40):
                await journal.add_usage(Turn(thread="t", execution=name, attempt=1), str(number), Usage(model_calls=1))
                await journal.used("t", name)

        await asyncio.gather(
            *(turn(journal, f"{who}-{index}") for who in range(6) for index, journal in enumerate((first, second)))
        )
        used, others = await first.used("t", "0-0")
    assert (used.model_calls, others.model_calls) == (40, 440)
