"""Lists: what they filter, how they page, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

LISTS = (
    "agent_execution/list",
    "agent_execution/listBySession",
    "workflow_execution/list",
    "workflow_execution/listByWorkflow",
    "session/list",
    "session/listByAgent",
)
"""Lists with a size and a token."""
NUMBERED = ("agent_instance/getByAgent", "workflow_instance/getByWorkflow")
"""Lists with numbered pages."""
OF_SOMETHING = tuple(name for name in LISTS + NUMBERED if not name.endswith("/list"))


def each(names: tuple[str, ...], *codes: str) -> list[Any]:
    """Return the lists, each marked with what is shown of it."""
    return [pytest.param(name, marks=[pytest.mark.rpc(name, code) for code in codes or ("OK",)]) for name in names]


def made_for(client: Any, make: Any, name: str, count: int) -> tuple[dict[str, Any], list[str]]:
    """Make resources that one list shows and others that it does not; return its filter, and their ids."""
    kind, method = name.split("/")
    make(kind, "of another")
    if method == "list":
        return {"tags": [client.org]}, [make(kind, tags=[client.org, str(n)]).metadata.id for n in range(count)]
    if kind == "agent_execution":
        session = make("session").metadata.id
        return {"sessionId": session}, _ids(make, kind, count, sessionId=session)
    if kind == "session":
        agent = make("agent")
        return {"agentId": agent.metadata.id}, _ids(make, kind, count, agentInstanceId=agent.status.default_instance_id)
    parent = make("agent" if kind == "agent_instance" else "workflow")
    field = "agentId" if kind == "agent_instance" else "workflowId"
    own = [parent.status.default_instance_id] if kind.endswith("_instance") else []
    return {field: parent.metadata.id}, own + _ids(make, kind, count - len(own), **{field: parent.metadata.id})


def _ids(make: Any, kind: str, count: int, **spec: str) -> list[str]:
    return [make(kind, f"n{number}", spec=spec).metadata.id for number in range(count)]


def ids(answer: Any) -> list[str]:
    entries = answer.items if answer.DESCRIPTOR.name == "AgentInstanceList" else answer.entries
    return [entry.metadata.id for entry in entries]


@pytest.mark.parametrize("name", each(LISTS))
def test_a_list_is_read_page_by_page(client: Any, make: Any, name: str) -> None:
    request, made = made_for(client, make, name, 5)
    whole = client(name, request)
    assert (ids(whole), whole.total_pages) == (made[::-1], 1)
    assert "x-next-page-token" not in client.trailers
    seen: list[str] = []
    token = ""
    while True:
        page = client(name, {**request, "pageSize": 2, "pageToken": token})
        assert page.total_pages == 3
        seen += ids(page)
        token = client.trailers.get("x-next-page-token", "")
        if not token:
            break
    assert seen == made[::-1]
    assert ids(client(name, {**request, "pageSize": 2, "pageToken": "2"})) == made[::-1][2:4]
    assert ids(client(name, {**request, "pageSize": 2, "pageToken": "7"})) == []


@pytest.mark.parametrize("name", each(NUMBERED))
def test_a_list_is_read_by_page_numbers(client: Any, make: Any, name: str) -> None:
    request, made = made_for(client, make, name, 5)
    whole = client(name, request)
    assert ids(whole) == made[::-1]
    assert getattr(whole, "total_count", 5) == 5
    seen: list[str] = []
    number = 1
    while True:
        page = client(name, {**request, "pageInfo": {"num": number, "size": 2}})
        assert getattr(page, "total_pages", 3) == 3
        seen += ids(page)
        if "x-next-page-token" not in client.trailers:
            break
        number = int(client.trailers["x-next-page-token"])
    assert (seen, number) == (made[::-1], 3)
    assert ids(client(name, {**request, "pageInfo": {"num": 9, "size": 2}})) == []


@pytest.mark.parametrize("name", each(LISTS, "INVALID_ARGUMENT"))
def test_a_page_that_cannot_be_is_refused(client: Any, make: Any, name: str) -> None:
    request, _ = made_for(client, make, name, 1)
    for size in (-1, 1001):
        error = client.refused(name, {**request, "pageSize": size}, "INVALID_ARGUMENT")
        assert error.fields == {"page_size": "page_size.range"}
    for token in ("0", "?", "-1", "x" * 50, "99999999999999999999999"):
        error = client.refused(name, {**request, "pageToken": token}, "INVALID_ARGUMENT")
        assert list(error.fields) == ["page_token"]


@pytest.mark.parametrize("name", each(NUMBERED, "INVALID_ARGUMENT"))
def test_a_numbered_page_that_cannot_be_is_refused(client: Any, make: Any, name: str) -> None:
    request, _ = made_for(client, make, name, 1)
    for field, value in (("num", -1), ("size", -1), ("size", 1001)):
        error = client.refused(name, {**request, "pageInfo": {field: value}}, "INVALID_ARGUMENT")
        assert list(error.fields) == [f"page_info.{field}"]


@pytest.mark.parametrize("name", each(OF_SOMETHING, "INVALID_ARGUMENT"))
def test_a_list_of_something_says_of_what(client: Any, name: str) -> None:
    fields = client.refused(name, None, "INVALID_ARGUMENT").fields
    assert list(fields.values()) == ["required"]


@pytest.mark.parametrize("name", each(("agent_execution/list", "workflow_execution/list"), "OK", "INVALID_ARGUMENT"))
def test_executions_are_listed_by_phase(client: Any, make: Any, name: str) -> None:
    kind = name.partition("/")[0]
    waiting, running = make(kind, tags=[client.org]), make(kind, tags=[client.org])
    status = {"phase": "EXECUTION_IN_PROGRESS"}
    client(f"{kind}/updateStatus", {"executionId": running.metadata.id, "status": status})
    assert ids(client(name, {"tags": [client.org], **status})) == [running.metadata.id]
    assert ids(client(name, {"tags": [client.org], "phase": "EXECUTION_PENDING"})) == [waiting.metadata.id]
    assert ids(client(name, {"tags": [client.org], "phase": "EXECUTION_FAILED"})) == []
    error = client.refused(name, {"phase": 77}, "INVALID_ARGUMENT")
    assert error.fields == {"phase": "enum.defined_only"}


@pytest.mark.rpc("ResourceController/list")
@pytest.mark.rpc("ResourceController/list", "INVALID_ARGUMENT")
def test_resources_of_any_kind_are_listed(client: Any, make: Any) -> None:
    name = "ResourceController/list"
    blue, red = make("environment", "Blue Sky", labels={"team": "a"}), make("environment", "Red Sky")
    listed = client(name, {"kind": "environment", "org": client.org})
    assert [entry["metadata"]["id"] for entry in listed.entries] == [red.metadata.id, blue.metadata.id]
    assert listed.total_count == 2
    page = client(name, {"kind": "environment", "org": client.org, "text": "SKY", "pageSize": 1})
    rest = client(name, {"kind": "environment", "org": client.org, "text": "SKY", "pageToken": page.next_page_token})
    assert [entry["metadata"]["slug"] for entry in rest.entries] == ["blue-sky"]
    assert client.refused(name, None, "INVALID_ARGUMENT").fields == {"kind": "required"}
    assert list(client.refused(name, {"kind": "platform"}, "INVALID_ARGUMENT").fields) == ["kind"]
