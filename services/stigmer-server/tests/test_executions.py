"""Executions: what they are made with, what runners report about them, and what cannot happen to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError, InvalidArgumentError, NotFoundError

from stigmer_server.messages import copied
from stigmer_server.testing import Api, manifest

Make = Callable[..., Awaitable[Any]]
EXECUTIONS = ["agent_execution", "workflow_execution"]
PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = range(1, 6)


async def report(api: Api, kind: str, execution: Any, status: dict[str, Any]) -> Any:
    return await api(kind, "updateStatus", {"executionId": execution.metadata.id, "status": status})


async def test_an_agent_execution_gets_a_session_with_the_default_instance(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "Helper")
    spec = {"agentId": agent.metadata.id, "message": "Hello"}
    made = await local("agent_execution", "create", manifest("agent_execution", "run", spec))
    session = await local("session", "get", {"value": made.spec.session_id})
    assert session.spec.agent_instance_id == agent.status.default_instance_id
    assert session.metadata.name.startswith("session-")
    assert session.spec.subject == "Auto-created session"
    assert session.metadata.org == agent.metadata.org == "local"
    assert made.status.phase == PENDING


async def test_a_session_wins_over_an_agent(local: Api, make: Make) -> None:
    session, agent = await make(local, "session"), await make(local, "agent", "other")
    made = await make(local, "agent_execution", spec={"sessionId": session.metadata.id, "agentId": agent.metadata.id})
    assert made.spec.session_id == session.metadata.id


async def test_an_agent_of_the_platform_can_be_run_by_its_id(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "Shared", org="", ownerScope="platform")
    spec = {"agentId": agent.metadata.id, "message": "Hello"}
    made = await local("agent_execution", "create", manifest("agent_execution", "run", spec, org="acme"))
    session = await local("session", "get", {"value": made.spec.session_id})
    assert session.metadata.org == "acme"


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_an_execution_of_nothing_is_invalid(local: Api, kind: str) -> None:
    spec = {"message": "Hello"} if kind == "agent_execution" else {"triggerMessage": "go"}
    with pytest.raises(InvalidArgumentError) as caught:
        await local(kind, "create", manifest(kind, "nothing", spec))
    assert caught.value.violations[0].field == "spec"


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("agent_execution", {"agentId": "agt-none", "message": "x"}),
        ("agent_execution", {"sessionId": "ses-none", "message": "x"}),
        ("workflow_execution", {"workflowId": "wfl-none"}),
        ("workflow_execution", {"workflowInstanceId": "win-none"}),
        ("agent_instance", {"agentId": "agt-none"}),
        ("workflow_instance", {"workflowId": "wfl-none"}),
        ("session", {"agentInstanceId": "ain-none"}),
    ],
)
async def test_what_a_resource_cannot_do_without_must_exist(local: Api, kind: str, spec: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError):
        await local(kind, "create", manifest(kind, "orphan", spec))


async def test_a_workflow_execution_names_its_instance_and_workflow(local: Api, make: Make) -> None:
    workflow = await make(local, "workflow", "Flow")
    by_workflow = await make(local, "workflow_execution", "one", spec={"workflowId": workflow.metadata.id})
    instance = workflow.status.default_instance_id
    assert by_workflow.spec.workflow_instance_id == instance
    spec = {"workflowInstanceId": instance}
    by_instance = await local("workflow_execution", "create", manifest("workflow_execution", "two", spec, org=""))
    assert by_instance.spec.workflow_id == workflow.metadata.id
    assert by_instance.metadata.org == "local"
    for made in (by_workflow, by_instance):
        assert made.status.phase == PENDING
        assert made.status.temporal_workflow_id == f"stigmer/workflow-execution/invoke/{made.metadata.id}"


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_report_is_merged_and_the_spec_stays(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    started = await report(local, kind, made, {"phase": "EXECUTION_IN_PROGRESS"})
    assert started.status.phase == IN_PROGRESS
    assert started.status.started_at.endswith("Z")
    assert started.spec == made.spec
    audit = started.status.audit
    assert audit.status_audit.event == "updated"
    assert audit.status_audit.updated_at.ToNanoseconds() > audit.spec_audit.updated_at.ToNanoseconds()
    assert audit.spec_audit == made.status.audit.spec_audit
    ended = await report(local, kind, made, {"phase": "EXECUTION_FAILED", "error": "no luck"})
    assert (ended.status.phase, ended.status.error) == (FAILED, "no luck")
    assert ended.status.started_at == started.status.started_at
    assert ended.status.completed_at.endswith("Z")
    assert await local(kind, "get", {"value": made.metadata.id}) == ended


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_a_finished_execution_stays_finished(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    done = await report(local, kind, made, {"phase": "EXECUTION_COMPLETED"})
    for phase in ("EXECUTION_IN_PROGRESS", "EXECUTION_FAILED"):
        late = await report(local, kind, made, {"phase": phase, "error": "late"})
        assert late == done


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_reports_about_nothing(local: Api, kind: str) -> None:
    with pytest.raises(NotFoundError):
        await local(kind, "updateStatus", {"executionId": "x", "status": {"phase": "EXECUTION_FAILED"}})
    for request in ({"executionId": "x"}, {"status": {"phase": "EXECUTION_FAILED"}}):
        with pytest.raises(InvalidArgumentError):
            await local(kind, "updateStatus", request)


async def test_tasks_are_updated_by_their_id(local: Api, make: Make) -> None:
    made = await make(local, "workflow_execution")
    first = {"taskId": "1", "taskName": "fetch", "status": "WORKFLOW_TASK_IN_PROGRESS", "inputValue": 3}
    await report(local, "workflow_execution", made, {"tasks": [first]})
    second = {"taskId": "2", "taskName": "draft", "status": "WORKFLOW_TASK_PENDING"}
    done = {"taskId": "1", "status": "WORKFLOW_TASK_COMPLETED", "outputValue": [1, 2]}
    after = await report(local, "workflow_execution", made, {"tasks": [done, second]})
    assert [(task.task_id, task.task_name, task.status) for task in after.status.tasks] == [
        ("1", "fetch", 3),
        ("2", "draft", 1),
    ]
    assert after.status.tasks[0].input_value.number_value == 3


async def test_lists_of_an_agent_execution_are_replaced_when_given(local: Api, make: Make) -> None:
    made = await make(local, "agent_execution")
    said = {"type": "MESSAGE_AI", "content": "one", "toolCalls": [{"id": "t", "status": "TOOL_CALL_RUNNING"}]}
    await report(local, "agent_execution", made, {"messages": [said], "todos": {"a": {"id": "a", "content": "do"}}})
    after = await report(local, "agent_execution", made, {"messages": [said, {"type": "MESSAGE_AI", "content": "two"}]})
    assert [message.content for message in after.status.messages] == ["one", "two"]
    assert after.status.todos["a"].content == "do"
    ended = await report(local, "agent_execution", made, {"phase": "EXECUTION_CANCELLED"})
    assert ended.status.messages[0].tool_calls[0].status == 7


async def test_twenty_reports_at_once_lose_nothing(local: Api, make: Make) -> None:
    made = await make(local, "workflow_execution")
    reports = [{"tasks": [{"taskId": str(number), "taskName": f"task {number}"}]} for number in range(20)]
    await asyncio.gather(*(report(local, "workflow_execution", made, status) for status in reports))
    after = await local("workflow_execution", "get", {"value": made.metadata.id})
    assert {task.task_id for task in after.status.tasks} == {str(number) for number in range(20)}


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_an_update_keeps_what_the_execution_was_made_with(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    sent = copied(made)
    path = "session_id" if kind == "agent_execution" else "workflow_instance_id"
    setattr(sent.spec, path, "")
    updated = await local(kind, "update", sent)
    assert getattr(updated.spec, path) == getattr(made.spec, path)
    setattr(sent.spec, path, "another")
    sent.metadata.version.Clear()
    with pytest.raises(InvalidArgumentError):
        await local(kind, "update", sent)


async def test_a_runner_gets_what_it_needs_to_run_a_workflow(local: Api, make: Make) -> None:
    made = await make(
        local,
        "workflow_execution",
        spec={"input": {"count": 3}, "triggerMessage": "go", "triggerMetadata": {"by": "cron"}},
    )
    run = await local.runtime("getWorkflowRun", made.metadata.id)
    assert (run.execution_id, run.org) == (made.metadata.id, "local")
    assert run.workflow.metadata.id == made.spec.workflow_id
    assert run.workflow_instance_id == made.spec.workflow_instance_id
    fields = run.input.struct_value.fields
    assert fields["count"].number_value == 3
    assert fields["message"].string_value == "go"
    assert fields["metadata"].struct_value.fields["by"].string_value == "cron"
    with pytest.raises(NotFoundError):
        await local.runtime("getWorkflowRun", "wex-none")
    await local("workflow_execution", "cancel", {"id": made.metadata.id})
    with pytest.raises(FailedPreconditionError):
        await local.runtime("getWorkflowRun", made.metadata.id)


@pytest.mark.parametrize(("said", "depth"), [("3", 3), ("", 0), ("many", 0), ("-1", 0), ("9" * 40, 999_999_999)])
async def test_a_runner_is_told_how_many_workflows_stand_above_one(
    local: Api, make: Make, said: str, depth: int
) -> None:
    made = await make(local, "workflow_execution", labels={"stigmer.ai/call-depth": said})
    assert (await local.runtime("getWorkflowRun", made.metadata.id)).call_depth == depth


async def test_an_input_that_is_no_object_stays_as_it_is(local: Api, make: Make) -> None:
    made = await make(local, "workflow_execution", spec={"input": [1, 2], "triggerMessage": "go"})
    run = await local.runtime("getWorkflowRun", made.metadata.id)
    assert [item.number_value for item in run.input.list_value.values] == [1, 2]


async def test_the_environment_is_given_only_while_it_is_needed(local: Api, make: Make) -> None:
    made = await make(local, "agent_execution", spec={"runtimeEnv": {"TOKEN": {"value": "s3cret", "isSecret": True}}})
    values = (await local.environment(made.metadata.id)).values
    assert values["TOKEN"].value == "s3cret"
    await report(local, "agent_execution", made, {"phase": "EXECUTION_COMPLETED"})
    with pytest.raises(FailedPreconditionError):
        await local.environment(made.metadata.id)


@pytest.mark.parametrize("kind", EXECUTIONS)
@pytest.mark.parametrize(("verb", "phase"), [("cancel", "EXECUTION_CANCELLED"), ("terminate", "EXECUTION_TERMINATED")])
async def test_a_stopped_execution_has_ended(local: Api, make: Make, kind: str, verb: str, phase: str) -> None:
    made = await make(local, kind)
    states = aiter(
        local.stream(kind, "subscribe", {"value" if kind == EXECUTIONS[0] else "executionId": made.metadata.id})
    )
    await anext(states)
    request = {"id": made.metadata.id, "reason": "not needed any more"}
    stopped = await local(kind, verb, request)
    assert (await local(kind, "list", {"phase": phase})).entries[0] == stopped
    assert "not needed any more" in str(stopped.status)
    assert stopped.status.completed_at
    assert [state async for state in states] == [stopped]
    assert await local(kind, verb, request) == stopped
    assert await report(local, kind, made, {"phase": "EXECUTION_COMPLETED"}) == stopped
    other = "terminate" if verb == "cancel" else "cancel"
    with pytest.raises(FailedPreconditionError):
        await local(kind, other, request)
    with pytest.raises(NotFoundError):
        await local(kind, verb, {"id": "none"})
