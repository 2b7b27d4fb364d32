"""How long a word of a model takes to those who follow the run: over the runner, the server and their connections.

Server, runner and Temporal are processes of this machine. A loopback server of OpenAI's API says words that are the
time at which it says them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from _report import Row
from _temporal import measure_and_print
from agent_runner.testing import Stigmer, client_of, run_stack

PACE_SECONDS = 0.02
PROMISE_MS = 100.0


class Clock:
    """Says what time it is, word by word."""

    def __init__(self, words: int) -> None:
        self._words = words
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            yield

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.decode().lower().split("\r\n") if line.startswith("content-length"))
        await reader.readexactly(int(length.partition(":")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        writer.write(_event({"role": "assistant", "content": ""}))
        for _ in range(self._words):
            writer.write(_event({"content": f"{time.time():.6f} "}))
            await writer.drain()
            await asyncio.sleep(PACE_SECONDS)
        writer.write(_event({}, finish="stop") + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()


def _event(delta: dict[str, Any], *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "clock", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def delays(stigmer: Stigmer, clock: Clock, agents: int) -> list[float]:
    """Milliseconds from when each word was said to when a client had it, of so many runs at once."""
    agent = await stigmer.agent()

    async def one() -> list[float]:
        made = await stigmer.execute(
            agent,
            "What time is it?",
            model="openai:clock",
            env={"OPENAI_BASE_URL": clock.url},
            secrets={"OPENAI_API_KEY": "sk-of-the-clock"},
        )
        late, text = list[float](), ""
        async for news in stigmer.live(made.metadata.id):
            if news.HasField("delta"):
                now, before = time.time(), text.count(" ")
                text = text[: news.delta.offset] + news.delta.text
                late += [(now - float(word)) * 1000 for word in text.split(" ")[before : text.count(" ")]]
        return late

    return [each for late in await asyncio.gather(*(one() for _ in range(agents))) for each in late]


def at_95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


async def measure(folder: Path, temporal: str, words: int) -> list[Row]:
    clock, rows = Clock(words), list[Row]()
    async with clock.serving(), run_stack(folder, temporal) as stack, client_of(stack) as stigmer:
        await stack.start_runner(STIGMER_AGENT_STATUS_SECONDS="0.5")
        await delays(stigmer, clock, 1)  # The first use of a provider imports its package.
        for agents in (1, 5):
            late = await delays(stigmer, clock, agents)
            name = f"a word to who follows, 95th percentile, {agents} at once"
            rows.append(Row(name=name, ours=at_95(late), peer_name="promise", peer=PROMISE_MS, unit="ms", limit=1.0))
    return rows


if __name__ == "__main__":
    sys.exit(measure_and_print("words", __doc__, measure, quick=50, full=400))
