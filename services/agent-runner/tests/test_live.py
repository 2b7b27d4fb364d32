"""What an agent says reaches those who follow it while it is said: each word once, and no secret."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_runner.testing import FINAL, RUN_SECONDS, Stigmer, phase
from google.protobuf.message import Message

HELPER = {"name": "helper", "description": "Looks things up.", "instructions": "You are the helper agent."}


class Heard:
    """What a client of the live stream knows."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.places: dict[str, tuple[int, str]] = {}
        self.pieces = 0
        self.status: Any = None

    def take(self, news: Any) -> bool:
        """Take something new in; tells whether the run is over."""
        if news.HasField("execution"):
            self.status = news.execution.status
            return phase(self.status) in FINAL
        delta = news.delta
        known = self.texts.get(delta.key, "")
        assert delta.offset <= len(known)
        self.texts[delta.key] = known[: delta.offset] + delta.text
        self.places[delta.key] = (delta.position, delta.task)
        self.pieces += 1
        return False


async def listen(stigmer: Stigmer, execution_id: str, *, pieces: int = 0) -> Heard:
    """Follow an execution to its end, or until so many pieces were heard."""
    heard = Heard()
    async with asyncio.timeout(RUN_SECONDS):
        news: Message
        async for news in stigmer.live(execution_id):
            if heard.take(news) or (pieces and heard.pieces >= pieces):
                return heard
    raise AssertionError(stigmer.stack.logs())


async def test_words_are_heard_in_pieces_by_who_comes_early_and_whole_by_who_comes_late(stigmer: Stigmer) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    model = stigmer.stack.script("live", f"turns: [{{text: '{words} sk-secret-value end', pace: 0.03}}]")
    execution = await stigmer.execute(await stigmer.agent(), "Go", model=model, secrets={"KEY": "sk-secret-value"})
    early = asyncio.create_task(listen(stigmer, execution.metadata.id))
    begun = await listen(stigmer, execution.metadata.id, pieces=5)
    late = await listen(stigmer, execution.metadata.id)
    heard = await early

    answer = f"{words} ***REDACTED*** end"
    assert [message.content for message in heard.status.messages][-1] == answer
    (key,) = heard.texts
    assert answer.startswith(heard.texts[key])
    assert answer.startswith(begun.texts[key])
    assert answer.startswith(late.texts[key])
    assert heard.pieces > 10
    assert heard.places[key] == (len(heard.status.messages) - 1, "")


async def test_a_sub_agent_is_heard_under_its_task(stigmer: Stigmer) -> None:
    model = stigmer.stack.script(
        "live-helper",
        """
        conversations:
          - turns:
              - tool_calls: [{name: task, args: {subagent_type: helper, description: Look}}]
              - text: Done.
          - agent: helper
            turns: [{text: I look and look., pace: 0.1}]
        """,
    )
    execution = await stigmer.execute(await stigmer.agent(sub_agents=[HELPER]), "Go", model=model)
    heard = await listen(stigmer, execution.metadata.id)
    (call,) = heard.status.tool_calls
    assert (-1, call.id) in heard.places.values()
    assert any("I look and look.".startswith(text) and text for text in heard.texts.values())
