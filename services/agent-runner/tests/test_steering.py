"""What a person says while an agent runs: the model is asked with it, in order and once."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, enum_name, phase
from stigmer_grpc.errors import FailedPreconditionError

CONTROL = "agentexecution.v1.AgentExecutionControlController"


async def begin(stigmer: Stigmer, server: OpenAIServer) -> str:
    """An execution whose first call of the model is held; gives its id."""
    server.replies["You listen."] = [{"text": "Done."}]
    server.hold_at = 0
    made = await stigmer.execute(
        await stigmer.agent("You listen."),
        "Go",
        model="openai:test",
        env={"OPENAI_BASE_URL": server.url},
        secrets={"OPENAI_API_KEY": "sk-steering"},
    )
    assert await asyncio.to_thread(server.held.wait, 60)
    return str(made.metadata.id)


async def say(stigmer: Stigmer, execution_id: str, *texts: str) -> None:
    for text in texts:
        await stigmer.call(CONTROL, "sendMessage", {"id": execution_id, "text": text})


def asked(call: dict[str, Any]) -> list[str]:
    """What people have said, as the model was told."""
    return [message["content"] for message in call["messages"] if message["role"] == "user"]


def told(status: Any) -> list[tuple[str, str]]:
    return [(enum_name(message, "type").removeprefix("MESSAGE_"), message.content) for message in status.messages]


async def test_what_is_said_during_the_last_call_is_answered_too(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    run = await begin(stigmer, openai_server)
    await say(stigmer, run, "in French", "and short")
    openai_server.release.set()
    status = await stigmer.finish(run)

    assert phase(status) == "EXECUTION_COMPLETED"
    assert [asked(call) for call in openai_server.calls] == [["Go"], ["Go", "in French", "and short"]]
    answer = ("AI", "Done.")
    assert told(status) == [("HUMAN", "Go"), answer, ("HUMAN", "in French"), ("HUMAN", "and short"), answer]
    assert status.taken_messages == len(status.sent_messages) == 2
    with pytest.raises(FailedPreconditionError, match="has ended"):
        await say(stigmer, run, "too late")


async def test_what_is_said_is_there_once_when_the_worker_is_killed(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    process = await own_stigmer.stack.start_runner()
    run = await begin(own_stigmer, openai_server)
    await say(own_stigmer, run, "in French")
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    openai_server.release.set()
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(run)

    assert [asked(call) for call in openai_server.calls] == [["Go"], ["Go", "in French"]]
    assert told(status) == [("HUMAN", "Go"), ("HUMAN", "in French"), ("AI", "Done.")]


async def test_a_paused_agent_keeps_what_is_said(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    run = await begin(stigmer, openai_server)
    await stigmer.call(CONTROL, "pause", {"id": run})
    await say(stigmer, run, "in French")
    openai_server.release.set()
    await stigmer.call(CONTROL, "resume", {"id": run})
    status = await stigmer.finish(run)
    assert [text for by, text in told(status) if by == "HUMAN"] == ["Go", "in French"]
    assert asked(openai_server.calls[-1]) == ["Go", "in French"]
