"""What agents say while they say it: held in memory, and not without bound."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from stigmer_protos import descriptors

from stigmer_server.live import Live
from stigmer_server.testing import Api

Make = Callable[..., Awaitable[Any]]
KIND = "agent_execution"
KEPT = 256 * 1024


async def test_of_a_long_text_the_end_is_kept_for_who_comes_late(local: Api, make: Make) -> None:
    id = (await make(local, KIND)).metadata.id
    said = "".join(f"{number:07} " for number in range(100_000))
    for start in range(0, len(said), 200_000):
        delta = {"key": "answer", "position": 1, "offset": start, "text": said[start : start + 200_000]}
        await local(KIND, "tell", {"executionId": id, "deltas": [delta]})
    news = aiter(local.stream(KIND, "follow", {"value": id}))
    async with asyncio.timeout(10):
        await anext(news)
        told = (await anext(news)).delta
    assert (told.offset, told.text) == (len(said) - KEPT, said[-KEPT:])


async def test_a_listener_that_does_not_read_costs_no_memory_however_much_is_said() -> None:
    delta_type = descriptors.message_type("ai.stigmer.agentic.agentexecution.v1.AgentExecutionDelta")
    live = Live()

    def say(first: int, last: int) -> None:
        for number in range(first, last):
            live.tell("aex-1", [delta_type(key=f"{number:0500}", text="word")])

    with live.listening("aex-1") as listener:
        say(0, 1_000)
        tracemalloc.start()
        try:
            say(1_000, 11_000)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The keys alone come to 5 MB.
        assert grown < 1_000_000
        async with asyncio.timeout(10):
            heard = await listener.heard()
    assert heard[-1].key.endswith("10999")
