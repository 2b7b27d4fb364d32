"""Executions: made, reported about, followed and stopped. No engine runs them here, so they stay pending."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import zstandard

KINDS = ("agent_execution", "workflow_execution")
ENDED = {"phase": "EXECUTION_COMPLETED"}


def each(method: str, *codes: str, kinds: tuple[str, ...] = KINDS) -> list[Any]:
    """Return the kinds of execution, each marked with what is shown of a method."""
    return [
        pytest.param(kind, marks=[pytest.mark.rpc(f"{kind}/{method}", code) for code in codes or ("OK",)])
        for kind in kinds
    ]


def ended(client: Any, make: Any, kind: str) -> Any:
    """Return an execution that has ended."""
    made = make(kind)
    return client(f"{kind}/updateStatus", {"executionId": made.metadata.id, "status": ENDED})


# create


@pytest.mark.rpc("agent_execution/create")
def test_an_agent_runs_in_a_session_of_its_own(client: Any, make: Any) -> None:
    agent = make("agent")
    made = make("agent_execution", spec={"agentId": agent.metadata.id})
    session = client("session/get", {"value": made.spec.session_id})
    assert session.spec.agent_instance_id == agent.status.default_instance_id
    assert session.spec.subject == "Auto-created session"
    assert made.status.phase == 1


@pytest.mark.rpc("agent_execution/create", "INVALID_ARGUMENT")
def test_an_agent_execution_says_what_to_run(client: Any, make: Any) -> None:
    sent = make.manifest("agent_execution", spec={"agentId": ""})
    error = client.refused("agent_execution/create", sent, "INVALID_ARGUMENT")
    assert error.fields == {"spec": "agent_execution.session_or_agent.required"}
    sent = make.manifest("agent_execution", spec={"message": ""})
    error = client.refused("agent_execution/create", sent, "INVALID_ARGUMENT")
    assert error.fields == {"spec.message": "string.min_len"}


@pytest.mark.rpc("workflow_execution/create")
def test_a_workflow_runs_through_its_default_instance(client: Any, make: Any) -> None:
    workflow = make("workflow")
    made = make("workflow_execution", spec={"workflowId": workflow.metadata.id})
    assert made.spec.workflow_instance_id == workflow.status.default_instance_id
    assert made.status.phase == 1


@pytest.mark.rpc("workflow_execution/create", "INVALID_ARGUMENT")
def test_a_workflow_execution_says_what_to_run(client: Any, make: Any) -> None:
    sent = make.manifest("workflow_execution", spec={"workflowId": ""})
    error = client.refused("workflow_execution/create", sent, "INVALID_ARGUMENT")
    assert error.fields == {"spec": "workflow_execution.workflow_or_instance.required"}


# updateStatus


@pytest.mark.parametrize("kind", each("updateStatus"))
def test_a_report_changes_the_status_alone(client: Any, make: Any, kind: str) -> None:
    made = make(kind)
    status = {"phase": "EXECUTION_IN_PROGRESS", "error": "so far so good"}
    reported = client(f"{kind}/updateStatus", {"executionId": made.metadata.id, "status": status})
    assert reported.spec == made.spec
    assert (reported.status.phase, reported.status.error) == (2, "so far so good")
    assert reported.status.started_at
    assert reported.status.audit.status_audit.event == "updated"
    assert reported.metadata.version == made.metadata.version


@pytest.mark.parametrize("kind", each("updateStatus", "INVALID_ARGUMENT"))
def test_a_report_says_whose_and_what(client: Any, kind: str) -> None:
    error = client.refused(f"{kind}/updateStatus", None, "INVALID_ARGUMENT")
    assert error.fields == {"execution_id": "string.min_len", "status": "required"}
    report = {"executionId": "x", "status": {"phase": 77}}
    error = client.refused(f"{kind}/updateStatus", report, "INVALID_ARGUMENT")
    assert error.fields == {"status.phase": "enum.defined_only"}


@pytest.mark.parametrize("kind", each("updateStatus", "NOT_FOUND"))
def test_a_report_about_nothing(client: Any, kind: str) -> None:
    client.refused(f"{kind}/updateStatus", {"executionId": "nothing", "status": ENDED}, "NOT_FOUND")


# subscribe


@pytest.mark.parametrize("kind", each("subscribe"))
def test_a_subscriber_sees_an_execution_to_its_end(client: Any, make: Any, kind: str) -> None:
    made = make(kind)
    states = client.stream(f"{kind}/subscribe", client.named(f"{kind}/subscribe", made.metadata.id))
    assert next(states) == made
    last = client(f"{kind}/updateStatus", {"executionId": made.metadata.id, "status": ENDED})
    assert list(states) == [last]


@pytest.mark.parametrize("kind", each("subscribe"))
def test_a_subscriber_of_what_has_ended_sees_the_end(client: Any, make: Any, kind: str) -> None:
    made = ended(client, make, kind)
    assert list(client.stream(f"{kind}/subscribe", client.named(f"{kind}/subscribe", made.metadata.id))) == [made]


@pytest.mark.parametrize("kind", each("subscribe", "INVALID_ARGUMENT"))
def test_a_subscriber_says_to_what(client: Any, kind: str) -> None:
    (field,) = client.named(f"{kind}/subscribe", "")
    assert client.refused(f"{kind}/subscribe", None, "INVALID_ARGUMENT").fields == {field: "required"}


@pytest.mark.parametrize("kind", each("subscribe", "NOT_FOUND"))
def test_a_subscriber_of_nothing(client: Any, kind: str) -> None:
    client.refused(f"{kind}/subscribe", client.named(f"{kind}/subscribe", "nothing"), "NOT_FOUND")


# cancel and terminate


@pytest.mark.parametrize("kind", each("cancel"))
def test_cancelling_ends_an_execution(client: Any, make: Any, kind: str) -> None:
    made = make(kind)
    request = {"id": made.metadata.id, "reason": "not wanted"}
    cancelled = client(f"{kind}/cancel", request)
    assert (cancelled.status.phase, cancelled.status.status_reason) == (5, "not wanted")
    assert client(f"{kind}/cancel", request) == cancelled


@pytest.mark.parametrize("kind", each("terminate"))
def test_terminating_ends_an_execution(client: Any, make: Any, kind: str) -> None:
    request = {"id": make(kind).metadata.id, "reason": "not wanted"}
    terminated = client(f"{kind}/terminate", request)
    assert terminated.status.phase == {"agent_execution": 8, "workflow_execution": 6}[kind]
    assert terminated.status.error == "not wanted"
    assert client(f"{kind}/terminate", request) == terminated


def stops(*codes: str) -> list[Any]:
    """Return the methods that stop an execution, each marked with what is shown of it."""
    return [
        pytest.param(name, marks=[pytest.mark.rpc(name, code) for code in codes])
        for name in (f"{kind}/{method}" for kind in KINDS for method in ("cancel", "terminate", "pause", "resume"))
    ]


@pytest.mark.parametrize("name", stops("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"))
def test_stopping_needs_an_execution_that_has_not_ended(client: Any, make: Any, name: str) -> None:
    assert client.refused(name, None, "INVALID_ARGUMENT").fields == {"id": "required"}
    error = client.refused(name, {"id": "x", "reason": "y" * 5000}, "INVALID_ARGUMENT")
    assert error.fields == {"reason": "string.max_len"}
    client.refused(name, {"id": "nothing"}, "NOT_FOUND")
    made = ended(client, make, name.partition("/")[0])
    assert "COMPLETED" in client.refused(name, {"id": made.metadata.id}, "FAILED_PRECONDITION").message


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.rpc(f"{k}/{m}") for m in ("pause", "resume")]) for k in KINDS]
)
def test_an_execution_is_held_and_goes_on(client: Any, make: Any, kind: str) -> None:
    request = {"id": make(kind).metadata.id, "reason": "not now"}
    paused = client(f"{kind}/pause", request)
    assert (paused.status.phase, paused.status.status_reason) == (7, "not now")
    assert client(f"{kind}/pause", request) == paused
    resumed = client(f"{kind}/resume", {"id": request["id"]})
    assert (resumed.status.phase, resumed.status.status_reason) == (1, "")
    assert client(f"{kind}/resume", {"id": request["id"]}) == resumed


@pytest.mark.parametrize("kind", each("recover", "OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"))
def test_only_a_failed_execution_is_recovered(client: Any, make: Any, kind: str) -> None:
    name, made = f"{kind}/recover", make(kind)
    assert client.refused(name, None, "INVALID_ARGUMENT").fields == {"id": "required"}
    client.refused(name, {"id": "nothing"}, "NOT_FOUND")
    assert "PENDING" in client.refused(name, {"id": made.metadata.id}, "FAILED_PRECONDITION").message
    failed = {"phase": "EXECUTION_FAILED", "error": "no luck"}
    client(f"{kind}/updateStatus", {"executionId": made.metadata.id, "status": failed})
    recovered = client(name, {"id": made.metadata.id, "reason": "once more"})
    assert (recovered.status.phase, recovered.status.error, recovered.status.recoveries) == (1, "", 1)
    assert client(name, {"id": made.metadata.id}) == recovered


SIGNAL = "workflow_execution/sendSignal"


@pytest.mark.rpc(SIGNAL)
@pytest.mark.rpc(SIGNAL, "INVALID_ARGUMENT")
@pytest.mark.rpc(SIGNAL, "NOT_FOUND")
@pytest.mark.rpc(SIGNAL, "ALREADY_EXISTS")
@pytest.mark.rpc(SIGNAL, "FAILED_PRECONDITION")
def test_a_signal_is_taken_once_and_only_while_it_can_arrive(client: Any, make: Any) -> None:
    made = make("workflow_execution")
    request = {"executionId": made.metadata.id, "signalName": "go", "payload": [1, {"a": None}], "idempotencyKey": "k"}
    assert client(SIGNAL, request) == client(SIGNAL, request) == made
    client.refused(SIGNAL, {**request, "payload": 2}, "ALREADY_EXISTS")
    fields = client.refused(SIGNAL, None, "INVALID_ARGUMENT").fields
    assert fields == {"execution_id": "required", "signal_name": "required"}
    client.refused(SIGNAL, {**request, "executionId": "nothing"}, "NOT_FOUND")
    client("workflow_execution/updateStatus", {"executionId": made.metadata.id, "status": ENDED})
    client.refused(SIGNAL, {**request, "idempotencyKey": ""}, "FAILED_PRECONDITION")


APPROVAL = "agent_execution/submitApproval"


@pytest.mark.rpc(APPROVAL)
@pytest.mark.rpc(APPROVAL, "INVALID_ARGUMENT")
@pytest.mark.rpc(APPROVAL, "NOT_FOUND")
@pytest.mark.rpc(APPROVAL, "FAILED_PRECONDITION")
def test_a_tool_call_that_waits_is_decided_on(client: Any, make: Any) -> None:
    id = make("agent_execution").metadata.id
    request = {"id": id, "toolCallId": "call", "action": "APPROVAL_ACTION_REJECT", "comment": "no"}
    fields = client.refused(APPROVAL, None, "INVALID_ARGUMENT").fields
    assert fields == {"id": "required", "tool_call_id": "required", "action": "required"}
    client.refused(APPROVAL, {**request, "id": "nothing"}, "NOT_FOUND")
    client.refused(APPROVAL, request, "FAILED_PRECONDITION")
    calls = [{"id": "call", "status": "TOOL_CALL_WAITING_APPROVAL"}]
    status = {"phase": "EXECUTION_WAITING_FOR_APPROVAL", "toolCalls": calls}
    waiting = client("agent_execution/updateStatus", {"executionId": id, "status": status})
    decided = client(APPROVAL, request)
    assert client(APPROVAL, request) == decided
    assert waiting.status.phase == decided.status.phase
    assert (decided.status.approvals["call"].decision, decided.status.approvals["call"].comment) == (3, "no")
    client.refused(APPROVAL, {**request, "arguments": {"n": 1}}, "INVALID_ARGUMENT")
    client.refused(APPROVAL, {**request, "action": "APPROVAL_ACTION_APPROVE"}, "FAILED_PRECONDITION")


MESSAGE = "agent_execution/sendMessage"


@pytest.mark.rpc(MESSAGE)
@pytest.mark.rpc(MESSAGE, "INVALID_ARGUMENT")
@pytest.mark.rpc(MESSAGE, "NOT_FOUND")
@pytest.mark.rpc(MESSAGE, "ALREADY_EXISTS")
@pytest.mark.rpc(MESSAGE, "FAILED_PRECONDITION")
def test_an_execution_completes_when_its_agent_has_seen_what_was_sent(client: Any, make: Any) -> None:
    id = make("agent_execution").metadata.id
    request = {"id": id, "text": "in French, please", "idempotencyKey": "k"}
    (sent,) = client(MESSAGE, request).status.sent_messages
    assert (sent.text, sent.sent_at.endswith("Z")) == ("in French, please", True)
    assert list(client(MESSAGE, request).status.sent_messages) == [sent]
    client.refused(MESSAGE, {**request, "text": "in German"}, "ALREADY_EXISTS")
    assert client.refused(MESSAGE, None, "INVALID_ARGUMENT").fields == {"id": "required", "text": "required"}
    client.refused(MESSAGE, {**request, "id": "nothing"}, "NOT_FOUND")
    report = {"executionId": id, "status": {**ENDED, "completedAt": "2026-01-01T00:00:00Z"}}
    brief = {"x-stigmer-return": "minimal"}
    held = client("agent_execution/updateStatus", report, metadata=brief)
    assert list(held.status.sent_messages) == [sent]
    assert held.status.phase != 3
    report["status"] = {**ENDED, "takenMessages": 1}
    assert not client("agent_execution/updateStatus", report, metadata=brief).status.sent_messages
    client.refused(MESSAGE, {**request, "idempotencyKey": ""}, "FAILED_PRECONDITION")


ANSWER = "workflow_execution/submitWorkflowTaskApproval"


@pytest.mark.rpc(ANSWER)
@pytest.mark.rpc(ANSWER, "INVALID_ARGUMENT")
@pytest.mark.rpc(ANSWER, "NOT_FOUND")
@pytest.mark.rpc(ANSWER, "FAILED_PRECONDITION")
def test_a_task_that_waits_for_a_person_is_answered(client: Any, make: Any) -> None:
    id = make("workflow_execution").metadata.id
    request = {"executionId": id, "taskName": "ask", "outcome": "yes", "formData": {"n": 1}}
    fields = client.refused(ANSWER, None, "INVALID_ARGUMENT").fields
    assert fields == {"execution_id": "required", "task_name": "required", "outcome": "required"}
    client.refused(ANSWER, {**request, "executionId": "nothing"}, "NOT_FOUND")
    client.refused(ANSWER, request, "FAILED_PRECONDITION")
    tasks = [{"taskId": "1", "taskName": "ask", "status": "WORKFLOW_TASK_WAITING_FOR_APPROVAL"}]
    waiting = client("workflow_execution/updateStatus", {"executionId": id, "status": {"tasks": tasks}})
    assert client(ANSWER, request) == client(ANSWER, request) == waiting
    client.refused(ANSWER, {**request, "outcome": "no"}, "FAILED_PRECONDITION")


# What runners ask for


CHECKPOINT = "ExecutionRuntimeController/saveCheckpoint"


@pytest.mark.rpc(CHECKPOINT)
@pytest.mark.rpc(CHECKPOINT, "INVALID_ARGUMENT")
@pytest.mark.rpc(CHECKPOINT, "NOT_FOUND")
@pytest.mark.rpc(CHECKPOINT, "FAILED_PRECONDITION")
def test_a_runner_keeps_where_it_got_to(client: Any, make: Any) -> None:
    made = make("workflow_execution")
    position = {"reference": "/do/0/a", "taskName": "a", "taskId": "/do/0/a", "failed": True}
    request = {
        "executionId": made.metadata.id,
        "temporalWorkflowId": made.status.temporal_workflow_id,
        "content": "Y29udGVudA==",
        "positions": [position],
    }
    client(CHECKPOINT, request)
    client(CHECKPOINT, request)
    fields = client.refused(CHECKPOINT, None, "INVALID_ARGUMENT").fields
    assert fields == {"execution_id": "required", "temporal_workflow_id": "required"}
    client.refused(CHECKPOINT, {**request, "executionId": "nothing"}, "NOT_FOUND")
    client.refused(CHECKPOINT, {**request, "temporalWorkflowId": "another"}, "FAILED_PRECONDITION")
    task = {"taskId": "/do/0/a", "taskName": "a", "status": "WORKFLOW_TASK_FAILED"}
    failed = {"phase": "EXECUTION_FAILED", "error": "no luck", "tasks": [task]}
    client("workflow_execution/updateStatus", {"executionId": made.metadata.id, "status": failed})
    assert client("workflow_execution/recover", {"id": made.metadata.id}).status.tasks[0].status == 2
    run = client("ExecutionRuntimeController/getWorkflowRun", {"executionId": made.metadata.id})
    assert (run.checkpoint, run.begin_at) == (b"content", "")


@pytest.mark.rpc("ExecutionRuntimeController/getWorkflowRun")
@pytest.mark.rpc("ExecutionRuntimeController/getWorkflowRun", "INVALID_ARGUMENT")
@pytest.mark.rpc("ExecutionRuntimeController/getWorkflowRun", "NOT_FOUND")
@pytest.mark.rpc("ExecutionRuntimeController/getWorkflowRun", "FAILED_PRECONDITION")
def test_a_runner_gets_what_it_runs_while_it_runs(client: Any, make: Any) -> None:
    name = "ExecutionRuntimeController/getWorkflowRun"
    made = make("workflow_execution", spec={"input": {"name": "Ada"}})
    run = client(name, {"executionId": made.metadata.id})
    assert run.workflow.metadata.id == made.spec.workflow_id
    assert client.plain(run.input) == {"name": "Ada"}
    assert client.refused(name, None, "INVALID_ARGUMENT").fields == {"execution_id": "required"}
    client.refused(name, {"executionId": "wex-nothing"}, "NOT_FOUND")
    client("workflow_execution/updateStatus", {"executionId": made.metadata.id, "status": ENDED})
    client.refused(name, {"executionId": made.metadata.id}, "FAILED_PRECONDITION")


@pytest.mark.rpc("ExecutionRuntimeController/issueToken")
@pytest.mark.rpc("ExecutionRuntimeController/issueToken", "INVALID_ARGUMENT")
@pytest.mark.rpc("ExecutionRuntimeController/issueToken", "NOT_FOUND")
@pytest.mark.rpc("ExecutionRuntimeController/issueToken", "FAILED_PRECONDITION")
@pytest.mark.rpc("ExecutionRuntimeController/getEnvironment")
@pytest.mark.rpc("ExecutionRuntimeController/getEnvironment", "INVALID_ARGUMENT")
@pytest.mark.rpc("ExecutionRuntimeController/getEnvironment", "UNAUTHENTICATED")
@pytest.mark.rpc("ExecutionRuntimeController/getEnvironment", "PERMISSION_DENIED")
@pytest.mark.rpc("ExecutionRuntimeController/getEnvironment", "NOT_FOUND")
@pytest.mark.rpc("ExecutionRuntimeController/getEnvironment", "FAILED_PRECONDITION")
def test_a_runner_gets_values_while_it_runs(client: Any, make: Any) -> None:
    issue, name = "ExecutionRuntimeController/issueToken", "ExecutionRuntimeController/getEnvironment"
    made = make("workflow_execution", spec={"runtimeEnv": {"TOKEN": {"value": "s3cret", "isSecret": True}}})
    request = {"executionId": made.metadata.id}
    shown = {"x-stigmer-execution-token": client(issue, request).token}
    assert client(name, request, metadata=shown).values["TOKEN"].value == "s3cret"
    for each in (issue, name):
        assert client.refused(each, None, "INVALID_ARGUMENT").fields == {"execution_id": "required"}
    client.refused(issue, {"executionId": "wex-nothing"}, "NOT_FOUND")
    client.refused(name, request, "UNAUTHENTICATED")
    client.refused(name, {"executionId": "wex-nothing"}, "PERMISSION_DENIED", metadata=shown)
    client("workflow_execution/updateStatus", {**request, "status": ENDED})
    client.refused(issue, request, "FAILED_PRECONDITION")
    client.refused(name, request, "FAILED_PRECONDITION", metadata=shown)
    client("workflow_execution/delete", {"value": made.metadata.id})
    client.refused(name, request, "NOT_FOUND", metadata=shown)


PUT, VALUE, OUTPUT = (
    "ExecutionRuntimeController/putValue",
    "ExecutionRuntimeController/getValue",
    "workflow_execution/getOutput",
)


def parts_of(client: Any, execution: str, text: bytes) -> list[Any]:
    kept = zstandard.compress(text)
    value = {"key": hashlib.sha256(kept).hexdigest(), "bytes": str(len(text))}
    header = client.message(PUT, {"header": {"executionId": execution, "value": value}})
    chunks = [client.message(PUT, {}) for _ in range(2)]
    chunks[0].chunk, chunks[1].chunk = kept[:7], kept[7:]
    return [header, *chunks]


@pytest.mark.rpc(PUT)
@pytest.mark.rpc(VALUE)
@pytest.mark.rpc(OUTPUT)
def test_a_large_output_is_put_and_read_whole(client: Any, make: Any) -> None:
    text = json.dumps({"text": "x" * 100_000}).encode()
    made = make("workflow_execution")
    id = made.metadata.id
    parts = parts_of(client, id, text)
    value = client(PUT, parts)
    assert client(PUT, parts) == value == parts[0].header.value
    named = {"executionId": id, "key": value.key}
    assert zstandard.decompress(b"".join(part.chunk for part in client.stream(VALUE, named))) == text
    ended = {**ENDED, "outputValue": "…", "largeOutput": {"key": value.key, "bytes": value.bytes}}
    client("workflow_execution/updateStatus", {"executionId": id, "status": ended})
    assert b"".join(part.chunk for part in client.stream(OUTPUT, {"executionId": id})) == text
    assert b"".join(part.chunk for part in client.stream(OUTPUT, {"executionId": id, "input": True})) == b"{}"


@pytest.mark.rpc(PUT, "INVALID_ARGUMENT")
@pytest.mark.rpc(PUT, "NOT_FOUND")
@pytest.mark.rpc(PUT, "FAILED_PRECONDITION")
@pytest.mark.rpc(VALUE, "INVALID_ARGUMENT")
@pytest.mark.rpc(VALUE, "NOT_FOUND")
@pytest.mark.rpc(VALUE, "FAILED_PRECONDITION")
@pytest.mark.rpc(OUTPUT, "INVALID_ARGUMENT")
@pytest.mark.rpc(OUTPUT, "NOT_FOUND")
def test_values_that_are_not_what_is_said_or_of_nothing_are_refused(client: Any, make: Any) -> None:
    id = make("workflow_execution").metadata.id
    header, first, second = parts_of(client, id, b"[1, 2, 3]")
    client.refused(PUT, [], "INVALID_ARGUMENT")
    client.refused(PUT, [first], "INVALID_ARGUMENT")
    client.refused(PUT, [header, header], "INVALID_ARGUMENT")
    client.refused(PUT, [header, second, first], "INVALID_ARGUMENT")
    for bytes_said in ("3", "900000000"):
        wrong = client.message(PUT, {"header": {"executionId": id}})
        wrong.header.value.key, wrong.header.value.bytes = header.header.value.key, int(bytes_said)
        client.refused(PUT, [wrong, first, second], "INVALID_ARGUMENT")
    lost = parts_of(client, "wex-nothing", b"[1, 2, 3]")
    client.refused(PUT, lost, "NOT_FOUND")
    key = header.header.value.key
    assert client.refused(VALUE, None, "INVALID_ARGUMENT").fields == {"execution_id": "required", "key": "required"}
    client.refused(VALUE, {"executionId": id, "key": key}, "NOT_FOUND")
    assert client.refused(OUTPUT, None, "INVALID_ARGUMENT").fields == {"execution_id": "required"}
    client.refused(OUTPUT, {"executionId": "wex-nothing"}, "NOT_FOUND")
    client("workflow_execution/updateStatus", {"executionId": id, "status": ENDED})
    client.refused(PUT, [header, first, second], "FAILED_PRECONDITION")
    client.refused(VALUE, {"executionId": id, "key": key}, "FAILED_PRECONDITION")
