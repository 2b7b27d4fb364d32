"""Conversations: one execution of a session after the other, whatever the one before is doing."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, enum_name, phase

CONTROL = "agentexecution.v1.AgentExecutionControlController"
MAIN = "You are the main agent."
DONE = "EXECUTION_COMPLETED"
WRITES = "turns:\n  - tool_calls: [{name: write_file, args: {file_path: /a.txt, content: x}}]\n  - text: written\n"


async def test_executions_of_a_session_run_one_after_the_other_in_their_order(
    stigmer: Stigmer, openai_server: OpenAIServer
) -> None:
    openai_server.replies[MAIN] = [{"text": "Heard."}]
    openai_server.hold_at = 0
    options: Any = {"env": {"OPENAI_BASE_URL": openai_server.url}, "secrets": {"OPENAI_API_KEY": "sk-1"}}
    agent = await stigmer.agent(MAIN)
    first = await stigmer.execute(agent, "one", model="openai:test", **options)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    session = first.spec.session_id
    second = await stigmer.execute(agent, "two", model="openai:test", session=session, **options)
    await stigmer.follow(second.metadata.id, lambda status: first.metadata.id in status.status_reason)
    third = await stigmer.execute(agent, "three", model="openai:test", session=session, **options)
    await stigmer.follow(third.metadata.id, lambda status: bool(status.status_reason))
    openai_server.release.set()
    for execution in (first, second, third):
        assert phase(await stigmer.finish(execution.metadata.id)) == DONE
    said = [[each["content"] for each in call["messages"] if each["role"] == "user"] for call in openai_server.calls]
    assert said == [["one"], ["one", "two"], ["one", "two", "three"]]


async def test_what_waits_for_a_person_is_not_mixed_with_what_is_said_next(stigmer: Stigmer) -> None:
    model = stigmer.stack.script("mixed", WRITES)
    agent = await stigmer.agent(approvalPolicies=[{"tool": "write_file"}])
    first = await stigmer.execute(agent, "write", model=model)
    await stigmer.follow(first.metadata.id, lambda status: phase(status) == "EXECUTION_WAITING_FOR_APPROVAL")
    quick = stigmer.stack.script("quick", "turns: [{text: hello}]")
    second = await stigmer.execute(agent, "hello", model=quick, session=first.spec.session_id)
    await stigmer.follow(second.metadata.id, lambda status: first.metadata.id in status.status_reason)
    (call,) = (await stigmer.get(first.metadata.id)).status.tool_calls
    decision = {"id": first.metadata.id, "toolCallId": call.id, "action": "APPROVAL_ACTION_APPROVE"}
    await stigmer.call(CONTROL, "submitApproval", decision)
    assert phase(await stigmer.finish(first.metadata.id)) == DONE
    status = await stigmer.finish(second.metadata.id)
    assert (phase(status), status.messages[-1].content, status.status_reason) == (DONE, "hello", "")


async def test_a_terminated_execution_holds_nobody_up(stigmer: Stigmer) -> None:
    model = stigmer.stack.script("terminated", WRITES)
    agent = await stigmer.agent(approvalPolicies=[{"tool": "write_file"}])
    first = await stigmer.execute(agent, "write", model=model)
    await stigmer.follow(first.metadata.id, lambda status: phase(status) == "EXECUTION_WAITING_FOR_APPROVAL")
    await stigmer.call(CONTROL, "terminate", {"id": first.metadata.id})
    quick = stigmer.stack.script("quick", "turns: [{text: hello}]")
    second = await stigmer.execute(agent, "hello", model=quick, session=first.spec.session_id)
    status = await stigmer.finish(second.metadata.id)
    assert (phase(status), status.messages[-1].content) == (DONE, "hello")


async def test_a_failed_execution_is_not_recovered_into_a_session_that_has_gone_on(stigmer: Stigmer) -> None:
    model = stigmer.stack.script("fails", "turns: [{error: {kind: bad_request}}]")
    agent = await stigmer.agent()
    first = await stigmer.execute(agent, "fail", model=model)
    assert phase(await stigmer.finish(first.metadata.id)) == "EXECUTION_FAILED"
    quick = stigmer.stack.script("quick", "turns: [{text: hello}]")
    second = await stigmer.execute(agent, "hello", model=quick, session=first.spec.session_id)
    assert phase(await stigmer.finish(second.metadata.id)) == DONE
    await stigmer.call(CONTROL, "recover", {"id": first.metadata.id})
    status = (await stigmer.follow(first.metadata.id, lambda status: bool(status.error)))[-1]
    assert (enum_name(status, "phase"), status.error) == (
        "EXECUTION_FAILED",
        "the session has gone on since this execution failed: say it again instead",
    )
