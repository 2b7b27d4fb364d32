"""Controlling executions: what each call does, once, and what is written down to be told to the run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stigmer_grpc import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError

from stigmer_server import outbox
from stigmer_server.executions import ANSWER, PAUSE, RESUME, SIGNAL
from stigmer_server.outbox import Action, Delivery
from stigmer_server.testing import Api

Make = Callable[..., Awaitable[Any]]
AGENT, WORKFLOW = EXECUTIONS = ["agent_execution", "workflow_execution"]
PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = range(1, 6)
PAUSED = 7


async def due(api: Api, execution: Any) -> list[Delivery]:
    return list(await outbox.due_of(api.app.resources.store, execution.metadata.id))


async def report(api: Api, kind: str, execution: Any, **status: Any) -> Any:
    return await api(kind, "updateStatus", {"executionId": execution.metadata.id, "status": status})


def signal(execution: Any, **more: Any) -> dict[str, Any]:
    return {"executionId": execution.metadata.id, "signalName": "go", **more}


@pytest.mark.requirement("control.pause", "phases")
@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_paused_execution_is_held_until_it_is_resumed(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    await report(local, kind, made, phase="EXECUTION_IN_PROGRESS")
    request = {"id": made.metadata.id, "reason": "wait a moment"}
    paused = await local(kind, "pause", request)
    assert (paused.status.phase, paused.status.status_reason) == (PAUSED, "wait a moment")
    assert not paused.status.completed_at
    assert await local(kind, "pause", request) == paused
    assert (await report(local, kind, made, phase="EXECUTION_IN_PROGRESS")).status.phase == PAUSED
    resumed = await local(kind, "resume", {"id": made.metadata.id})
    assert (resumed.status.phase, resumed.status.status_reason) == (IN_PROGRESS, "")
    assert await local(kind, "resume", {"id": made.metadata.id}) == resumed
    assert (await report(local, kind, made, phase="EXECUTION_PAUSED")).status.phase == IN_PROGRESS
    assert [(item.action, item.name) for item in await due(local, made)] == [
        (Action.SIGNAL, PAUSE),
        (Action.SIGNAL, RESUME),
    ]


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_what_has_not_begun_can_be_paused_and_waits_again_when_resumed(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    assert (await local(kind, "pause", {"id": made.metadata.id})).status.phase == PAUSED
    assert (await local(kind, "resume", {"id": made.metadata.id})).status.phase == PENDING


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_paused_execution_may_end(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    await local(kind, "pause", {"id": made.metadata.id, "reason": "hold"})
    ended = await report(local, kind, made, phase="EXECUTION_COMPLETED")
    assert (ended.status.phase, ended.status.status_reason) == (COMPLETED, "")


@pytest.mark.parametrize("kind", EXECUTIONS)
@pytest.mark.parametrize("verb", ["pause", "resume", "recover", "cancel", "terminate"])
async def test_what_has_ended_is_controlled_no_more(local: Api, make: Make, kind: str, verb: str) -> None:
    made = await make(local, kind)
    ended = await report(local, kind, made, phase="EXECUTION_COMPLETED")
    with pytest.raises(FailedPreconditionError) as caught:
        await local(kind, verb, {"id": made.metadata.id})
    assert "EXECUTION_COMPLETED" in str(caught.value)
    assert await local(kind, "get", {"value": made.metadata.id}) == ended
    assert await due(local, made) == []
    with pytest.raises(NotFoundError):
        await local(kind, verb, {"id": "none"})
    with pytest.raises(InvalidArgumentError):
        await local(kind, verb, {"id": made.metadata.id, "reason": "x" * 4097})


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_failed_execution_is_recovered_once(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    with pytest.raises(FailedPreconditionError):
        await local(kind, "recover", {"id": made.metadata.id})
    failed = await report(local, kind, made, phase="EXECUTION_FAILED", error="no luck")
    assert failed.status.completed_at
    recovered = await local(kind, "recover", {"id": made.metadata.id, "reason": "try again"})
    status = recovered.status
    assert (status.phase, status.recoveries, status.status_reason) == (PENDING, 1, "try again")
    assert (status.error, status.completed_at) == ("", "")
    assert status.temporal_workflow_id == f"{made.status.temporal_workflow_id}/recovery-1"
    assert await local(kind, "recover", {"id": made.metadata.id, "reason": "again"}) == recovered
    await report(local, kind, made, phase="EXECUTION_IN_PROGRESS")
    assert (await local(kind, "recover", {"id": made.metadata.id})).status.recoveries == 1
    await report(local, kind, made, phase="EXECUTION_FAILED", error="no luck")
    assert (await local(kind, "recover", {"id": made.metadata.id})).status.recoveries == 2


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_run_that_was_replaced_is_not_listened_to(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    former = made.status.temporal_workflow_id
    await report(local, kind, made, phase="EXECUTION_FAILED", error="no", temporalWorkflowId=former)
    recovered = await local(kind, "recover", {"id": made.metadata.id})
    late = await report(local, kind, made, phase="EXECUTION_FAILED", error="late", temporalWorkflowId=former)
    assert late == recovered
    present = recovered.status.temporal_workflow_id
    ended = await report(local, kind, made, phase="EXECUTION_COMPLETED", temporalWorkflowId=present)
    assert ended.status.phase == COMPLETED


@pytest.mark.parametrize("payload", [None, True, 3, "text", [1, {"a": None}], {"deep": {"er": [1.5]}}])
async def test_a_signal_carries_any_json_even_before_the_run_has_started(local: Api, make: Make, payload: Any) -> None:
    made = await make(local, WORKFLOW)
    answer = await local(WORKFLOW, "sendSignal", signal(made, payload=payload))
    assert answer == made
    (delivery,) = await due(local, made)
    assert (delivery.name, delivery.payload["name"], delivery.payload["payload"]) == (SIGNAL, "go", payload)


@pytest.mark.requirement("control.signal")
async def test_a_hundred_simultaneous_signals_with_one_key_are_one(local: Api, make: Make) -> None:
    made = await make(local, WORKFLOW)
    request = signal(made, payload={"n": 1}, idempotencyKey="once")
    answers = await asyncio.gather(*(local(WORKFLOW, "sendSignal", request) for _ in range(100)))
    assert all(answer == made for answer in answers)
    (delivery,) = await due(local, made)
    await local(WORKFLOW, "sendSignal", signal(made, payload={"n": 1}))
    await local(WORKFLOW, "sendSignal", signal(made, payload={"n": 1}, idempotencyKey="twice"))
    assert len(await due(local, made)) == 3
    with pytest.raises(AlreadyExistsError):
        await local(WORKFLOW, "sendSignal", signal(made, payload={"n": 2}, idempotencyKey="once"))
    # What was delivered is remembered, also when the execution has ended.
    await local.app.resources.transact(lambda unit: unit.outbox.done(delivery))
    await report(local, WORKFLOW, made, phase="EXECUTION_COMPLETED")
    await local(WORKFLOW, "sendSignal", request)
    with pytest.raises(FailedPreconditionError):
        await local(WORKFLOW, "sendSignal", signal(made))


async def test_a_key_is_forgotten_after_a_day(local: Api, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await make(local, WORKFLOW)
    request = signal(made, idempotencyKey="once")
    await local(WORKFLOW, "sendSignal", request)
    (delivery,) = await due(local, made)
    store = local.app.resources.store
    await local.app.resources.transact(lambda unit: unit.outbox.done(delivery))
    assert await outbox.forget(store, delivery.expires - 1) == 0
    await local(WORKFLOW, "sendSignal", request)
    assert await due(local, made) == []
    assert await outbox.forget(store, delivery.expires + 1) == 1
    await local(WORKFLOW, "sendSignal", request)
    (again,) = await due(local, made)
    assert again.payload["id"] != delivery.payload["id"]


async def test_a_signal_that_is_too_large_is_refused(local: Api, make: Make) -> None:
    made = await make(local, WORKFLOW)
    with pytest.raises(InvalidArgumentError) as caught:
        await local(WORKFLOW, "sendSignal", signal(made, payload="x" * 600_000))
    assert caught.value.violations[0].field == "payload"
    for request in ({"executionId": made.metadata.id}, {"signalName": "go"}, signal(made, signalName="n" * 257)):
        with pytest.raises(InvalidArgumentError):
            await local(WORKFLOW, "sendSignal", request)


def approval(execution: Any, action: str = "APPROVAL_ACTION_APPROVE", **more: Any) -> dict[str, Any]:
    return {"id": execution.metadata.id, "toolCallId": "call-1", "action": action, **more}


async def test_a_tool_call_is_decided_on_once(local: Api, make: Make) -> None:
    made = await make(local, AGENT)
    with pytest.raises(FailedPreconditionError):
        await local(AGENT, "submitApproval", approval(made))
    call = {"id": "call-1", "name": "rm", "status": "TOOL_CALL_WAITING_APPROVAL"}
    await report(local, AGENT, made, phase="EXECUTION_WAITING_FOR_APPROVAL", toolCalls=[call])
    requests = [approval(made, comment="fine") for _ in range(20)]
    await asyncio.gather(*(local(AGENT, "submitApproval", request) for request in requests))
    (delivery,) = await due(local, made)
    assert delivery.name == ANSWER
    given = {key: value for key, value in delivery.payload.items() if key not in ("id", "at")}
    assert given == {"tool_call_id": "call-1", "action": "APPROVE", "by": "system"}
    await report(local, AGENT, made, phase="EXECUTION_WAITING_FOR_APPROVAL", approvals={"call-1": {"reason": "late"}})
    kept = (await local(AGENT, "get", {"value": made.metadata.id})).status.approvals["call-1"]
    assert (kept.decision, kept.comment, kept.decided_by, bool(kept.decided_at)) == (1, "fine", "system", True)
    with pytest.raises(FailedPreconditionError):
        await local(AGENT, "submitApproval", approval(made, "APPROVAL_ACTION_REJECT"))
    await report(local, AGENT, made, phase="EXECUTION_COMPLETED")
    await local(AGENT, "submitApproval", requests[0])
    with pytest.raises(InvalidArgumentError):
        await local(AGENT, "submitApproval", approval(made, "APPROVAL_ACTION_UNSPECIFIED"))
    with pytest.raises(InvalidArgumentError):
        await local(AGENT, "submitApproval", approval(made, "APPROVAL_ACTION_REJECT", arguments={"n": 1}))


def answer(execution: Any, outcome: str = "yes", **more: Any) -> dict[str, Any]:
    return {"executionId": execution.metadata.id, "taskName": "ask", "outcome": outcome, **more}


@pytest.mark.requirement("control.answer")
async def test_a_task_that_waits_for_a_person_is_answered_once(local: Api, make: Make) -> None:
    made = await make(local, WORKFLOW)
    with pytest.raises(FailedPreconditionError):
        await local(WORKFLOW, "submitWorkflowTaskApproval", answer(made))
    tasks = [
        {"taskId": f"/do/0/ask#{number}", "taskName": "ask", "status": "WORKFLOW_TASK_WAITING_FOR_APPROVAL"}
        for number in (1, 2)
    ]
    await report(local, WORKFLOW, made, phase="EXECUTION_IN_PROGRESS", tasks=tasks[:1])
    request = answer(made, formData={"amount": 3}, comment="all right")
    await asyncio.gather(*(local(WORKFLOW, "submitWorkflowTaskApproval", request) for _ in range(20)))
    (delivery,) = await due(local, made)
    given = {key: value for key, value in delivery.payload.items() if key not in ("id", "at")}
    assert given == {
        "task_id": "/do/0/ask#1",
        "task_name": "ask",
        "outcome": "yes",
        "form_data": {"amount": 3},
        "comment": "all right",
        "by": "system",
    }
    with pytest.raises(FailedPreconditionError):
        await local(WORKFLOW, "submitWorkflowTaskApproval", answer(made, "no"))
    await report(local, WORKFLOW, made, tasks=tasks[1:])
    await local(WORKFLOW, "submitWorkflowTaskApproval", answer(made, "no"))
    assert [item.payload["task_id"] for item in await due(local, made)] == ["/do/0/ask#1", "/do/0/ask#2"]


async def test_an_answer_is_held_against_what_the_task_asks(local: Api, make: Make) -> None:
    made = await make(local, WORKFLOW)
    form = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
    asked = {"message": "Go?", "outcomes": ["yes", "no"], "form": form}
    task = {"taskId": "1", "taskName": "ask", "status": "WORKFLOW_TASK_WAITING_FOR_APPROVAL", "inputValue": asked}
    await report(local, WORKFLOW, made, phase="EXECUTION_IN_PROGRESS", tasks=[task])
    for request, said in (
        (answer(made, "perhaps"), "outcome: 'perhaps' is none of: yes, no"),
        (answer(made), "'amount' is a required property"),
        (answer(made, formData={"amount": "much"}), "form_data/amount: 'much' is not of type 'integer'"),
    ):
        with pytest.raises(InvalidArgumentError, match=re.escape(said)):
            await local(WORKFLOW, "submitWorkflowTaskApproval", request)
    assert await due(local, made) == []
    await local(WORKFLOW, "submitWorkflowTaskApproval", answer(made, formData={"amount": 3}))
    assert [item.payload["form_data"] for item in await due(local, made)] == [{"amount": 3}]


async def test_a_recovered_run_is_answered_anew(local: Api, make: Make) -> None:
    made = await make(local, WORKFLOW)
    task = {"taskId": "1", "taskName": "ask", "status": "WORKFLOW_TASK_WAITING_FOR_APPROVAL"}
    await report(local, WORKFLOW, made, phase="EXECUTION_IN_PROGRESS", tasks=[task])
    await local(WORKFLOW, "submitWorkflowTaskApproval", answer(made))
    await report(local, WORKFLOW, made, phase="EXECUTION_FAILED", error="x")
    await local(WORKFLOW, "recover", {"id": made.metadata.id, "fromTask": "/"})
    await report(local, WORKFLOW, made, phase="EXECUTION_IN_PROGRESS", tasks=[task])
    await local(WORKFLOW, "submitWorkflowTaskApproval", answer(made, "no"))
    yes, ended, no = await due(local, made)
    assert [item.payload["outcome"] for item in (yes, no)] == ["yes", "no"]
    # The run before may not be begun again by a runner that has only lost it from sight.
    assert (ended.action, ended.run) == (Action.TERMINATE, yes.run)
    assert no.run != yes.run


async def test_a_stopped_run_is_told_so_and_its_open_tasks_are_closed(local: Api, make: Make) -> None:
    made = await make(local, WORKFLOW)
    task = {"taskId": "1", "taskName": "fetch", "status": "WORKFLOW_TASK_IN_PROGRESS"}
    await report(local, WORKFLOW, made, phase="EXECUTION_IN_PROGRESS", tasks=[task])
    await local(WORKFLOW, "sendSignal", signal(made))
    stopped = await local(WORKFLOW, "cancel", {"id": made.metadata.id, "reason": "enough"})
    (closed,) = stopped.status.tasks
    assert (closed.status, bool(closed.error), bool(closed.completed_at)) == (4, True, True)
    cancel = (await due(local, made))[-1]
    assert (cancel.action, cancel.payload, cancel.run) == (Action.CANCEL, "enough", made.status.temporal_workflow_id)


async def test_a_deleted_execution_leaves_nothing_but_word_to_its_run(local: Api, make: Make) -> None:
    made = await make(local, WORKFLOW)
    await local(WORKFLOW, "sendSignal", signal(made, idempotencyKey="k"))
    await local(WORKFLOW, "delete", {"value": made.metadata.id})
    assert [item.action for item in await due(local, made)] == [Action.CANCEL]


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_dry_run_of_a_control_changes_nothing(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    metadata = {"x-stigmer-dry-run": "true"}
    shown = await local(kind, "pause", {"id": made.metadata.id}, metadata=metadata)
    assert shown.status.phase == PAUSED
    assert await local(kind, "get", {"value": made.metadata.id}) == made
    assert await due(local, made) == []


@pytest.mark.requirement("phases")
async def test_what_a_terminated_workflow_waited_for_is_terminated_with_it(local: Api, make: Make) -> None:
    caller = await make(local, WORKFLOW, "caller")
    labels = {"stigmer.ai/called-by": caller.metadata.id}
    agent = await make(local, AGENT, "agent", labels=labels)
    flow = await make(local, WORKFLOW, "flow", labels=labels)
    below = await make(local, AGENT, "below", labels={"stigmer.ai/called-by": flow.metadata.id})
    done = await make(local, AGENT, "done", labels=labels)
    other = await make(local, AGENT, "other")
    await report(local, AGENT, done, phase="EXECUTION_COMPLETED")
    await local(WORKFLOW, "terminate", {"id": caller.metadata.id, "reason": "enough"})

    async def found(kind: str, execution: Any) -> Any:
        return (await local(kind, "get", {"value": execution.metadata.id})).status

    terminated = [await found(AGENT, agent), await found(WORKFLOW, flow), await found(AGENT, below)]
    assert [(status.phase, status.error) for status in terminated] == [
        (8, f"{caller.metadata.id}, which called it, has ended without it"),
        (6, f"{caller.metadata.id}, which called it, has ended without it"),
        (8, f"{flow.metadata.id}, which called it, has ended without it"),
    ]
    assert Action.TERMINATE in [item.action for item in await due(local, agent)]
    assert [(await found(AGENT, each)).phase for each in (done, other)] == [COMPLETED, PENDING]


@pytest.mark.requirement("phases")
async def test_executions_that_say_to_have_called_each_other_are_terminated_all_the_same(
    local: Api, make: Make
) -> None:
    first = await make(local, AGENT, "first")
    second = await make(local, AGENT, "second", labels={"stigmer.ai/called-by": first.metadata.id})
    first.metadata.labels["stigmer.ai/called-by"] = second.metadata.id
    first.ClearField("status")
    await local(AGENT, "update", first)
    ended = await local(AGENT, "terminate", {"id": second.metadata.id})
    assert ended == await local(AGENT, "get", {"value": second.metadata.id})
    assert [each.status.phase for each in (ended, await local(AGENT, "get", {"value": first.metadata.id}))] == [8, 8]


async def test_a_cancelled_workflow_stops_what_it_waits_for_by_itself(local: Api, make: Make) -> None:
    caller = await make(local, WORKFLOW, "caller")
    agent = await make(local, AGENT, "agent", labels={"stigmer.ai/called-by": caller.metadata.id})
    await local(WORKFLOW, "cancel", {"id": caller.metadata.id})
    assert (await local(AGENT, "get", {"value": agent.metadata.id})).status.phase == PENDING
