"""What a killed worker leaves behind, and how the next one goes on."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, enum_name, phase

pytestmark = pytest.mark.slow

MAIN, HELPER = "You are the main agent.", "You are the helper agent."
SUB_AGENT = {"name": "helper", "description": "Looks things up.", "instructions": HELPER}
CALLS = 8
"""Model calls of an undisturbed run."""


def _conversation(server: OpenAIServer) -> None:
    plan = {"todos": [{"content": "look", "status": "in_progress"}]}
    server.replies[MAIN] = [
        {"text": "Planning.", "tool_calls": [("write_todos", plan)]},
        {"tool_calls": [("write_file", {"file_path": "/a.txt", "content": "a"})]},
        {"text": "Asking.", "tool_calls": [("task", {"subagent_type": "helper", "description": "Look"})]},
        {"tool_calls": [("read_file", {"file_path": "/a.txt"}), ("ls", {"path": "/"})]},
        {"text": "The end."},
    ]
    server.replies[HELPER] = [
        {"tool_calls": [("ls", {"path": "/"})]},
        {"tool_calls": [("glob", {"pattern": "*", "path": "/"})]},
        {"text": "Looked."},
    ]


async def _start(stigmer: Stigmer, server: OpenAIServer) -> str:
    execution = await stigmer.execute(
        await stigmer.agent(MAIN, sub_agents=[SUB_AGENT]),
        "Go",
        model="openai:test",
        env={"OPENAI_BASE_URL": server.url},
        secrets={"OPENAI_API_KEY": "sk-recovery"},
    )
    return str(execution.metadata.id)


async def _held(server: OpenAIServer) -> None:
    assert await asyncio.to_thread(server.held.wait, 60), "the model call was never made"


def _distinct(server: OpenAIServer) -> list[str]:
    """The prompts that were sent, each once; ids differ between attempts and say nothing."""
    prompts: list[str] = []
    for body in server.calls:
        messages: list[dict[str, Any]] = json.loads(json.dumps(body["messages"]))
        for message in messages:
            message.pop("tool_call_id", None)
            for call in message.get("tool_calls", ()):
                call.pop("id", None)
        text = json.dumps(messages, sort_keys=True)
        if text not in prompts:
            prompts.append(text)
    return prompts


@pytest.mark.parametrize("number", [0, 2, 4, 7], ids=["first call", "main agent", "sub-agent", "last call"])
async def test_after_a_kill_only_the_call_in_flight_is_repeated(
    own_stigmer: Stigmer, openai_server: OpenAIServer, number: int
) -> None:
    _conversation(openai_server)
    openai_server.hold_at = number
    doomed = await own_stigmer.stack.start_runner()
    execution = await _start(own_stigmer, openai_server)
    await _held(openai_server)
    doomed.send_signal(signal.SIGKILL)
    await doomed.wait()
    openai_server.release.set()
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(execution)

    assert phase(status) == "EXECUTION_COMPLETED"
    assert len(openai_server.calls) == CALLS + 1
    assert len(_distinct(openai_server)) == CALLS
    said = [message.content for message in status.messages if enum_name(message, "type") == "MESSAGE_AI"]
    assert said == ["Planning.", "", "Asking.", "", "The end."]
    names = sorted(call.name for call in status.tool_calls)
    assert names == ["glob", "ls", "ls", "read_file", "task", "write_file", "write_todos"]
    assert {enum_name(call, "status") for call in status.tool_calls} == {"TOOL_CALL_COMPLETED"}


async def test_a_stopped_worker_hands_its_turn_over_between_two_steps(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    _conversation(openai_server)
    openai_server.hold_at = 2
    leaving = await own_stigmer.stack.start_runner(STIGMER_RUNNER_GRACE_SECONDS="30")
    execution = await _start(own_stigmer, openai_server)
    await _held(openai_server)
    leaving.terminate()
    await own_stigmer.stack.start_runner()
    openai_server.release.set()
    status = await own_stigmer.finish(execution)

    assert phase(status) == "EXECUTION_COMPLETED"
    assert len(openai_server.calls) == CALLS, "the call in flight was waited for"
    async with asyncio.timeout(20):
        assert await leaving.wait() == 0


async def test_a_worker_whose_time_to_stop_is_over_leaves_the_call_in_flight(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    _conversation(openai_server)
    openai_server.hold_at = 2
    leaving = await own_stigmer.stack.start_runner(STIGMER_RUNNER_GRACE_SECONDS="0.2")
    execution = await _start(own_stigmer, openai_server)
    await _held(openai_server)
    leaving.terminate()
    async with asyncio.timeout(20):
        assert await leaving.wait() == 0
    openai_server.release.set()
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(execution)

    assert phase(status) == "EXECUTION_COMPLETED"
    assert len(openai_server.calls) == CALLS + 1


async def test_a_worker_that_was_frozen_cannot_disturb_the_one_that_took_over(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    _conversation(openai_server)
    openai_server.hold_at = 2
    frozen = await own_stigmer.stack.start_runner()
    execution = await _start(own_stigmer, openai_server)
    await _held(openai_server)
    frozen.send_signal(signal.SIGSTOP)
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(execution)
    openai_server.release.set()
    frozen.send_signal(signal.SIGCONT)
    await own_stigmer.stack.stop()

    assert phase(status) == "EXECUTION_COMPLETED"
    assert len(openai_server.calls) == CALLS + 1
    after = (await own_stigmer.get(execution)).status
    assert after == status


async def test_a_server_that_goes_away_during_a_turn_loses_nothing(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    _conversation(openai_server)
    openai_server.hold_at = 3
    await own_stigmer.stack.start_runner()
    execution = await _start(own_stigmer, openai_server)
    await _held(openai_server)
    await own_stigmer.stack.kill_server()
    openai_server.release.set()
    async with asyncio.timeout(60):
        # It goes on without the server, up to its end: what it made is to be there before that is told.
        while "FileCommandController.put failed" not in own_stigmer.stack.logs():  # noqa: ASYNC110 - the log of a process
            await asyncio.sleep(0.05)
    assert len(openai_server.calls) == CALLS
    await own_stigmer.stack.start_server()
    status = await own_stigmer.finish(execution)

    assert phase(status) == "EXECUTION_COMPLETED"
    assert len(openai_server.calls) == CALLS
    said = [message.content for message in status.messages if enum_name(message, "type") == "MESSAGE_AI"]
    assert said == ["Planning.", "", "Asking.", "", "The end."]
    assert len(status.tool_calls) == 7


async def test_an_execution_that_is_deleted_ends_its_turn_before_the_next_model_call(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    _conversation(openai_server)
    openai_server.hold_at = 2
    await own_stigmer.stack.start_runner()
    execution = await _start(own_stigmer, openai_server)
    await _held(openai_server)
    await own_stigmer.call("agentexecution.v1.AgentExecutionCommandController", "delete", {"value": execution})
    openai_server.release.set()
    run = await own_stigmer.workflow_ended(execution)

    assert run.status.name in ("COMPLETED", "CANCELED")
    assert len(openai_server.calls) == 3


async def test_prompts_are_not_traced_to_anyone_by_a_variable_left_behind(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    _conversation(openai_server)
    connections: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append("connected")
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as collector:
        port = collector.sockets[0].getsockname()[1]
        await own_stigmer.stack.start_runner(
            LANGSMITH_TRACING="true",
            LANGSMITH_ENDPOINT=f"http://127.0.0.1:{port}",
            LANGSMITH_API_KEY="lsv2-left-behind",
        )
        status = await own_stigmer.finish(await _start(own_stigmer, openai_server))
        await own_stigmer.stack.stop()
    assert phase(status) == "EXECUTION_COMPLETED"
    assert not connections
