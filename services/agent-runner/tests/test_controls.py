"""Pausing, resuming and recovering an agent's run, and deciding on its tool calls, through a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, phase
from stigmer_grpc import FailedPreconditionError

pytestmark = pytest.mark.slow

MAIN = "You are the main agent."
CONTROL = "agentexecution.v1.AgentExecutionControlController"


async def start(stigmer: Stigmer, server: OpenAIServer) -> str:
    execution = await stigmer.execute(
        await stigmer.agent(MAIN),
        "Go",
        model="openai:test",
        env={"OPENAI_BASE_URL": server.url},
        secrets={"OPENAI_API_KEY": "sk-controls"},
    )
    return str(execution.metadata.id)


async def control(stigmer: Stigmer, verb: str, execution: str, **more: Any) -> Any:
    return await stigmer.call(CONTROL, verb, {"id": execution, **more})


async def test_a_paused_turn_ends_its_step_and_goes_on_from_there(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    openai_server.replies[MAIN] = [
        {"text": "First.", "tool_calls": [("ls", {"path": "/"})]},
        {"text": "Second.", "tool_calls": [("ls", {"path": "/"})]},
        {"text": "The end."},
    ]
    openai_server.hold_at = 1
    await own_stigmer.stack.start_runner()
    execution = await start(own_stigmer, openai_server)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    paused = await control(own_stigmer, "pause", execution, reason="lunch")
    assert phase(paused.status) == "EXECUTION_PAUSED"
    # The activity hears of it with its next sign of life.
    await asyncio.sleep(5)
    openai_server.release.set()
    await asyncio.sleep(2)
    assert len(openai_server.calls) == 2, "the call in flight was waited for, and no other made"
    assert phase((await own_stigmer.get(execution)).status) == "EXECUTION_PAUSED"
    await control(own_stigmer, "resume", execution)
    status = await own_stigmer.finish(execution)
    assert phase(status) == "EXECUTION_COMPLETED"
    assert len(openai_server.calls) == 3, "nothing was asked twice"


async def test_a_paused_turn_can_be_cancelled(own_stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    await own_stigmer.stack.start_runner()
    openai_server.replies[MAIN] = [{"text": "Never."}]
    openai_server.hold_at = 0
    execution = await start(own_stigmer, openai_server)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    await control(own_stigmer, "pause", execution)
    await control(own_stigmer, "cancel", execution, reason="enough")
    openai_server.release.set()
    assert phase(await own_stigmer.finish(execution)) == "EXECUTION_CANCELLED"
    ended = await own_stigmer.workflow_ended(execution)
    assert ended.status is not None


async def test_a_failed_turn_is_recovered_with_its_conversation(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    await own_stigmer.stack.start_runner()
    first = {"text": "First.", "tool_calls": [("ls", {"path": "/"})]}
    openai_server.replies[MAIN] = [first, {"status": 401, "message": "no such key"}]
    execution = await start(own_stigmer, openai_server)
    failed = await own_stigmer.finish(execution)
    assert phase(failed) == "EXECUTION_FAILED"
    openai_server.replies[MAIN] = [first, {"text": "The end."}]
    calls = len(openai_server.calls)
    recovered = await control(own_stigmer, "recover", execution, reason="key renewed")
    assert (phase(recovered.status), recovered.status.error) == ("EXECUTION_PENDING", "")
    status = await own_stigmer.finish(execution)
    assert (phase(status), status.error) == ("EXECUTION_COMPLETED", "")
    assert len(openai_server.calls) == calls + 1, "what was said before was not asked again"
    assert status.temporal_workflow_id.endswith("/recovery-1")


async def test_no_decision_is_taken_on_a_call_that_does_not_wait(
    own_stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    openai_server.replies[MAIN] = [{"text": "The end."}]
    execution = await start(own_stigmer, openai_server)
    with pytest.raises(FailedPreconditionError):
        await control(own_stigmer, "submitApproval", execution, toolCallId="x", action="APPROVAL_ACTION_APPROVE")


async def test_runs_that_are_cancelled_at_any_moment_hold_no_other_up(stigmer: Stigmer) -> None:
    model = stigmer.stack.script(
        "busy",
        """
        conversations:
          - turns:
              - tool_calls:
                  - {name: write_file, args: {file_path: /a.txt, content: x}}
                  - {name: task, args: {subagent_type: helper, description: Wait}}
                  - {name: write_todos, args: {todos: [{content: a, status: pending}]}}
              - text: done
          - agent: helper
            turns:
              - tool_calls: [{name: ls, args: {path: /}}, {name: write_file, args: {file_path: /b.txt, content: x}}]
              - tool_calls: [{name: ls, args: {path: /}}]
              - {text: too late, delay: 600}
        """,
    )
    helper = {"name": "helper", "description": "Waits.", "instructions": "You are the helper agent."}
    agent = await stigmer.agent(sub_agents=[helper])

    async def cancelled(number: int) -> str:
        execution = await stigmer.execute(agent, "Go", model=model)
        await stigmer.follow(execution.metadata.id, lambda status: phase(status) != "EXECUTION_PENDING")
        await asyncio.sleep(number * 0.25 % 2)  # some in each of their steps
        workflow = f"stigmer/agent-execution/invoke/{execution.metadata.id}"
        await stigmer.temporal.get_workflow_handle(workflow).cancel()
        status = await stigmer.finish(execution.metadata.id)
        assert (await stigmer.workflow_ended(execution.metadata.id)).status.name == "CANCELED"
        return phase(status)

    for _ in range(2):
        assert set(await asyncio.gather(*map(cancelled, range(10)))) == {"EXECUTION_CANCELLED"}
