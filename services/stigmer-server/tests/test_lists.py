"""Lists: filters, pages and totals, and nothing left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError

from stigmer_server.testing import Api, manifest

Make = Callable[..., Awaitable[Any]]


def names(listed: Any) -> list[str]:
    entries = listed.items if listed.DESCRIPTOR.name == "AgentInstanceList" else listed.entries
    return [entry.metadata.name for entry in entries]


@pytest.mark.parametrize("kind", ["agent_execution", "workflow_execution", "session"])
async def test_a_list_shows_everything_newest_first(api: Api, make: Make, kind: str) -> None:
    for number in range(3):
        await make(api, kind, f"n{number}")
    listed = await api(kind, "list", {})
    own = [name for name in names(listed) if name.startswith("n")]
    assert own == ["n2", "n1", "n0"]
    assert listed.total_pages == 1


async def test_a_list_can_be_read_page_by_page(api: Api, make: Make) -> None:
    for number in range(7):
        await make(api, "agent_execution", f"n{number}")
    seen: list[str] = []
    token = ""
    while True:
        trailers: dict[str, Any] = {}
        request = {"pageSize": 3, "pageToken": token}
        listed = await api("agent_execution", "list", request, trailers=trailers)
        assert listed.total_pages == 3
        seen += names(listed)
        token = trailers.get("x-next-page-token", "")
        if not token:
            break
    assert seen == [f"n{number}" for number in reversed(range(7))]
    second = await api("agent_execution", "list", {"pageSize": 3, "pageToken": "2"})
    assert names(second) == ["n3", "n2", "n1"]
    assert names(await api("agent_execution", "list", {"pageSize": 3, "pageToken": "9"})) == []


@pytest.mark.parametrize("request_", [{"pageSize": -1}, {"pageSize": 5000}, {"pageToken": "?"}, {"pageToken": "0"}])
async def test_a_page_that_cannot_be_is_invalid(local: Api, request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await local("agent_execution", "list", request_)


@pytest.mark.parametrize("kind", ["agent_execution", "workflow_execution"])
async def test_executions_are_listed_by_phase(local: Api, make: Make, kind: str) -> None:
    running, _ = await make(local, kind, "running"), await make(local, kind, "waiting")
    status = {"phase": "EXECUTION_IN_PROGRESS"}
    await local(kind, "updateStatus", {"executionId": running.metadata.id, "status": status})
    assert names(await local(kind, "list", status)) == ["running"]
    assert names(await local(kind, "list", {"phase": "EXECUTION_PENDING"})) == ["waiting"]
    assert names(await local(kind, "list", {"phase": "EXECUTION_FAILED"})) == []


async def test_lists_are_filtered_by_tags(local: Api, make: Make) -> None:
    await make(local, "session", "both", tags=["red", "round"])
    await make(local, "session", "one", tags=["red"])
    await make(local, "session", "none")
    assert names(await local("session", "list", {"tags": ["red"]})) == ["one", "both"]
    assert names(await local("session", "list", {"tags": ["red", "round"]})) == ["both"]
    assert names(await local("session", "list", {"tags": ["blue"]})) == []


async def test_instances_are_listed_by_what_they_are_of(local: Api, make: Make) -> None:
    agent, other = await make(local, "agent", "One"), await make(local, "agent", "Other")
    spec = {"agentId": agent.metadata.id}
    await local("agent_instance", "create", manifest("agent_instance", "second", spec))
    listed = await local("agent_instance", "getByAgent", {"agentId": agent.metadata.id})
    assert names(listed) == ["second", "One-default"]
    assert listed.total_count == 2
    assert names(await local("agent_instance", "getByAgent", {"agentId": other.metadata.id})) == ["Other-default"]
    workflow = await make(local, "workflow", "Flow")
    listed = await local("workflow_instance", "getByWorkflow", {"workflowId": workflow.metadata.id})
    assert names(listed) == ["Flow-default"]
    page = {"agentId": agent.metadata.id, "pageInfo": {"num": 2, "size": 1}}
    assert names(await local("agent_instance", "getByAgent", page)) == ["One-default"]


async def test_sessions_and_executions_are_listed_by_their_owners(local: Api, make: Make) -> None:
    session = await make(local, "session", "talk")
    await make(local, "session", "elsewhere")
    run = await make(local, "agent_execution", "turn", spec={"sessionId": session.metadata.id})
    await make(local, "agent_execution", "alone")
    listed = await local("agent_execution", "listBySession", {"sessionId": session.metadata.id})
    assert [entry.metadata.id for entry in listed.entries] == [run.metadata.id]
    instance = await local("agent_instance", "get", {"value": session.spec.agent_instance_id})
    for agent in (instance.spec.agent_id, instance.metadata.id):
        assert names(await local("session", "listByAgent", {"agentId": agent})) == ["talk"]


async def test_workflow_executions_are_listed_by_workflow_however_they_were_made(local: Api, make: Make) -> None:
    workflow = await make(local, "workflow", "Flow")
    await make(local, "workflow_execution", "by workflow", spec={"workflowId": workflow.metadata.id})
    spec = {"workflowInstanceId": workflow.status.default_instance_id}
    await local("workflow_execution", "create", manifest("workflow_execution", "by instance", spec))
    await make(local, "workflow_execution", "of another")
    listed = await local("workflow_execution", "listByWorkflow", {"workflowId": workflow.metadata.id})
    assert names(listed) == ["by instance", "by workflow"]


async def test_resources_of_any_kind_are_listed_as_json(api: Api, make: Make) -> None:
    await make(api, "environment", "Blue Sky", labels={"team": "a"})
    await make(api, "environment", "Red Sky", labels={"team": "b"})
    await make(api, "environment", "Elsewhere", org="acme")
    listed = await api.list_all({"kind": "environment", "org": "local"})
    assert [entry["metadata"]["name"] for entry in listed.entries] == ["Red Sky", "Blue Sky"]
    assert listed.total_count == 2
    assert listed.entries[0]["metadata"]["ownerScope"] == "organization"
    by_label = await api.list_all({"kind": "environment", "labels": {"team": "a"}})
    assert [entry["metadata"]["slug"] for entry in by_label.entries] == ["blue-sky"]
    by_text = await api.list_all({"kind": "environment", "text": "SKY", "pageSize": 1})
    assert (by_text.total_count, len(by_text.entries)) == (2, 1)
    rest = await api.list_all({"kind": "environment", "text": "SKY", "pageToken": by_text.next_page_token})
    assert [entry["metadata"]["slug"] for entry in rest.entries] == ["blue-sky"]
    assert rest.next_page_token == ""
    with pytest.raises(InvalidArgumentError):
        await api.list_all({"kind": "iam_policy"})
