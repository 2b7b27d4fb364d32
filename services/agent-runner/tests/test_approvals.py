"""People in the loop: which tool calls wait for them, and what becomes of a call on which they decided."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from agent_runner.testing import Stigmer, enum_name, phase
from stigmer_grpc import FailedPreconditionError

pytestmark = pytest.mark.slow

CONTROL = "agentexecution.v1.AgentExecutionControlController"
WAITING = "EXECUTION_WAITING_FOR_APPROVAL"
DONE = "EXECUTION_COMPLETED"
NOTE = "{name: write_file, args: {file_path: /note.txt, content: draft}}"


def script(*calls: str, last: str = "It is done: $result") -> str:
    turns = "".join(f"  - tool_calls: [{call}]\n" for call in calls)
    return f"turns:\n{turns}  - text: '{last}'\n"


async def start(stigmer: Stigmer, name: str, text: str, **spec: Any) -> str:
    agent = await stigmer.agent(**spec)
    execution = await stigmer.execute(agent, "Go", model=stigmer.stack.script(name, text))
    return str(execution.metadata.id)


async def waits(stigmer: Stigmer, execution: str, calls: int = 1) -> Any:
    """The status once so many calls wait, and nothing else goes on."""

    def fits(status: Any) -> bool:
        waiting = [call for call in status.tool_calls if enum_name(call, "status") == "TOOL_CALL_WAITING_APPROVAL"]
        return phase(status) == WAITING and len(waiting) == calls

    return (await stigmer.follow(execution, fits))[-1]


async def decide(stigmer: Stigmer, execution: str, call: Any, action: str = "APPROVE", **more: Any) -> None:
    request = {"id": execution, "toolCallId": call.id, "action": f"APPROVAL_ACTION_{action}", **more}
    await stigmer.call(CONTROL, "submitApproval", request)


def answer(status: Any) -> str:
    return [message for message in status.messages if enum_name(message, "type") == "MESSAGE_AI"][-1].content


async def test_a_call_waits_with_its_arguments_until_a_person_allows_it(stigmer: Stigmer) -> None:
    policy = {"tool": "write_*", "reason": "files are precious"}
    execution = await start(stigmer, "allow", script(NOTE), approvalPolicies=[policy])
    status = await waits(stigmer, execution)
    (call,) = status.tool_calls
    assert dict(call.args) == {"file_path": "/note.txt", "content": "draft"}
    assert status.status_reason == "a person must decide on calls of write_file"
    asked = status.approvals[call.id]
    assert (asked.reason, asked.expires_at, asked.decision) == ("files are precious", "", 0)
    await decide(stigmer, execution, call, comment="fine")
    status = await stigmer.finish(execution)
    assert (phase(status), status.status_reason) == (DONE, "")
    assert enum_name(status.tool_calls[0], "status") == "TOOL_CALL_COMPLETED"
    decided = status.approvals[call.id]
    assert (enum_name(decided, "decision"), decided.comment, decided.decided_by) == (
        "APPROVAL_ACTION_APPROVE",
        "fine",
        "system",
    )
    assert asked.requested_at == decided.requested_at <= decided.decided_at


@pytest.mark.parametrize(
    ("action", "told"),
    [("REJECT", "A person refused this call of 'write_file'"), ("SKIP", "A person chose to go on without this call")],
)
async def test_the_model_is_told_of_a_call_that_is_not_made(stigmer: Stigmer, action: str, told: str) -> None:
    execution = await start(stigmer, f"not-{action.lower()}", script(NOTE), approvalPolicies=[{"tool": "write_file"}])
    (call,) = (await waits(stigmer, execution)).tool_calls
    await decide(stigmer, execution, call, action, comment="not there")
    status = await stigmer.finish(execution)
    assert phase(status) == DONE
    assert enum_name(status.tool_calls[0], "status") == "TOOL_CALL_SKIPPED"
    assert told in answer(status)
    assert "They said: not there" in answer(status)


async def test_a_person_changes_the_arguments_of_a_call(stigmer: Stigmer) -> None:
    read = "{name: read_file, args: {file_path: /note.txt}}"
    execution = await start(stigmer, "change", script(NOTE, read), approvalPolicies=[{"tool": "write_file"}])
    (call,) = (await waits(stigmer, execution)).tool_calls
    await decide(stigmer, execution, call, arguments={"file_path": "/note.txt", "content": "final"})
    status = await stigmer.finish(execution)
    assert "final" in answer(status)
    assert "draft" not in answer(status)
    assert dict(status.tool_calls[0].args)["content"] == "draft", "what the model asked for stays to be seen"
    assert dict(status.approvals[call.id].arguments)["content"] == "final"


async def test_the_first_policy_that_fits_counts(stigmer: Stigmer) -> None:
    policies = [
        {"tool": "write_file", "arguments": {"file_path": "/safe/*"}, "rule": "APPROVAL_RULE_ALLOW"},
        {"tool": "write_file", "arguments": {"content": "*secret*"}, "rule": "APPROVAL_RULE_DENY", "reason": "leaks"},
        {"tool": "write_file"},
    ]
    calls = (
        "{name: write_file, args: {file_path: /safe/a.txt, content: x}}",
        "{name: write_file, args: {file_path: /b.txt, content: a secret}}",
        "{name: write_file, args: {file_path: /c.txt, content: y}}",
    )
    execution = await start(stigmer, "first", script(*calls), approvalPolicies=policies)
    status = await waits(stigmer, execution)
    seen = [enum_name(call, "status") for call in status.tool_calls]
    assert seen == ["TOOL_CALL_COMPLETED", "TOOL_CALL_SKIPPED", "TOOL_CALL_WAITING_APPROVAL"]
    assert status.tool_calls[1].error == "This agent may not call 'write_file' with these arguments: leaks."
    await decide(stigmer, execution, status.tool_calls[2])
    assert phase(await stigmer.finish(execution)) == DONE


async def test_calls_that_wait_together_are_decided_on_one_by_one(stigmer: Stigmer) -> None:
    both = f"{NOTE}, {{name: write_file, args: {{file_path: /two.txt, content: two}}}}"
    execution = await start(stigmer, "together", script(both), approvalPolicies=[{"tool": "write_file"}])
    first, second = (await waits(stigmer, execution, calls=2)).tool_calls
    await decide(stigmer, execution, second)
    status = await waits(stigmer, execution, calls=1)
    assert [enum_name(call, "status") for call in status.tool_calls] == [
        "TOOL_CALL_WAITING_APPROVAL",
        "TOOL_CALL_COMPLETED",
    ]
    await decide(stigmer, execution, first, "REJECT")
    assert phase(await stigmer.finish(execution)) == DONE


async def test_a_sub_agents_call_waits_too(stigmer: Stigmer) -> None:
    text = f"""
conversations:
  - turns:
      - tool_calls: [{{name: task, args: {{description: write it, subagent_type: writer}}}}]
      - text: $result
  - agent: writer
    turns:
      - tool_calls: [{NOTE}]
      - text: The writer wrote.
"""
    writer = {"name": "writer", "description": "writes", "instructions": "You write what you are told."}
    execution = await start(stigmer, "sub", text, subAgents=[writer], approvalPolicies=[{"tool": "write_file"}])
    status = await waits(stigmer, execution)
    (call,) = [call for call in status.tool_calls if call.name == "write_file"]
    await decide(stigmer, execution, call)
    status = await stigmer.finish(execution)
    assert (phase(status), answer(status)) == (DONE, "The writer wrote.")


async def test_an_agent_asks_a_person_and_hears_the_answer(stigmer: Stigmer) -> None:
    question = "{name: ask_person, args: {question: Which colour?, options: [red, blue]}}"
    execution = await start(stigmer, "ask", script(question, last="It will be $result"), canAsk=True)
    (call,) = (await waits(stigmer, execution)).tool_calls
    await decide(stigmer, execution, call, comment="blue")
    status = await stigmer.finish(execution)
    assert answer(status) == "It will be blue"
    assert (enum_name(status.tool_calls[0], "status"), status.tool_calls[0].result) == ("TOOL_CALL_COMPLETED", "blue")


@pytest.mark.parametrize(
    ("expiry", "ends", "call_ends"),
    [
        ("REJECT", DONE, "TOOL_CALL_SKIPPED"),
        ("APPROVE", DONE, "TOOL_CALL_COMPLETED"),
        ("FAIL", "EXECUTION_FAILED", "TOOL_CALL_INTERRUPTED"),
    ],
)
async def test_a_call_that_nobody_decides_on_expires(stigmer: Stigmer, expiry: str, ends: str, call_ends: str) -> None:
    policy = {"tool": "write_file", "expiresAfterSeconds": 1, "onExpiry": f"APPROVAL_EXPIRY_{expiry}"}
    execution = await start(stigmer, f"expiry-{expiry.lower()}", script(NOTE), approvalPolicies=[policy])
    status = await stigmer.finish(execution)
    (call,) = status.tool_calls
    assert (phase(status), enum_name(call, "status")) == (ends, call_ends)
    assert status.approvals[call.id].decided_by == "expiry"
    if expiry == "FAIL":
        assert status.error == "nobody decided in time on the call of write_file"


async def test_the_annotation_names_tools_to_approve(stigmer: Stigmer) -> None:
    agent = await stigmer.agent(annotations={"stigmer.ai/approve-tools": "ls, write_*"})
    execution = await stigmer.execute(agent, "Go", model=stigmer.stack.script("annotated", script(NOTE)))
    (call,) = (await waits(stigmer, execution.metadata.id)).tool_calls
    await decide(stigmer, execution.metadata.id, call)
    assert phase(await stigmer.finish(execution.metadata.id)) == DONE


async def test_a_decision_outlives_runner_and_server(own_stigmer: Stigmer) -> None:
    runner = await own_stigmer.stack.start_runner()
    execution = await start(own_stigmer, "outlive", script(NOTE), approvalPolicies=[{"tool": "write_file"}])
    (call,) = (await waits(own_stigmer, execution)).tool_calls
    runner.send_signal(signal.SIGKILL)
    await runner.wait()
    await decide(own_stigmer, execution, call)
    await own_stigmer.stack.kill_server()
    await own_stigmer.stack.start_server()
    with pytest.raises(FailedPreconditionError, match="something else has been decided"):
        await decide(own_stigmer, execution, call, "REJECT")
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(execution)
    assert (phase(status), enum_name(status.tool_calls[0], "status")) == (DONE, "TOOL_CALL_COMPLETED")


async def test_a_run_that_waits_is_paused_resumed_and_cancelled(stigmer: Stigmer) -> None:
    execution = await start(stigmer, "held", script(NOTE), approvalPolicies=[{"tool": "write_file"}])
    await waits(stigmer, execution)
    await stigmer.call(CONTROL, "pause", {"id": execution})
    await stigmer.call(CONTROL, "resume", {"id": execution})
    await waits(stigmer, execution)
    await stigmer.call(CONTROL, "cancel", {"id": execution})
    status = await stigmer.finish(execution)
    assert (phase(status), enum_name(status.tool_calls[0], "status")) == (
        "EXECUTION_CANCELLED",
        "TOOL_CALL_INTERRUPTED",
    )
