"""Lists of resources of any kind: every filter, by itself and with the others, over pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError

from stigmer_server.calls import Call, Caller
from stigmer_server.errors import DeniedError
from stigmer_server.kinds import registry
from stigmer_server.queries.list_ import Listing, list_
from stigmer_server.testing import Api, manifest, serve

Make = Callable[..., Awaitable[Any]]


def names(listed: Any) -> list[str]:
    return [entry["metadata"]["name"] for entry in listed.entries]


async def everything(api: Api, request: dict[str, Any]) -> list[str]:
    """Return the names on all pages of two, and check what the pages say of themselves."""
    found: list[str] = []
    token, total = "", None
    while True:
        page = await api.list_all({**request, "pageSize": 2, "pageToken": token})
        total = page.total_count if total is None else total
        assert page.total_count == total
        found += names(page)
        token = page.next_page_token
        if not token:
            assert len(found) == total
            return found
        assert len(page.entries) == 2


@pytest.mark.parametrize("kind", sorted(set(registry()) - {"skill"}))
async def test_every_kind_is_listed(local: Api, make: Make, kind: str) -> None:
    if kind not in local.app.resources.kinds or kind in ("organization", "api_key"):
        pytest.skip("made in another way")
    for number in range(3):
        await make(local, kind, f"n{number}", labels={"mine": "yes"})
    assert await everything(local, {"kind": kind, "selector": "mine"}) == ["n2", "n1", "n0"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("team", ["c", "b", "a"]),
        ("!team", ["d"]),
        ("team=blue", ["b", "a"]),
        ("team!=blue", ["d", "c"]),
        ("team in (blue, red), tier=1", ["c", "b"]),
        ("team notin (red), tier", ["b"]),
        ("team=green", []),
        (" ", ["d", "c", "b", "a"]),
    ],
)
async def test_resources_are_selected_by_their_labels(
    local: Api, make: Make, selector: str, expected: list[str]
) -> None:
    for name, labels in {
        "a": {"team": "blue"},
        "b": {"team": "blue", "tier": "1"},
        "c": {"team": "red", "tier": "1"},
        "d": {},
    }.items():
        await make(local, "environment", name, labels=labels)
    assert await everything(local, {"kind": "environment", "selector": selector}) == expected


async def test_filters_hold_together(api: Api, make: Make) -> None:
    await make(api, "environment", "Blue Sky", labels={"team": "a"}, tags=["x", "y"])
    await make(api, "environment", "Blue Sea", labels={"team": "a"}, tags=["x"])
    await make(api, "environment", "Blue Sun", labels={"team": "b"}, tags=["x", "y"])
    await make(api, "environment", "Blue Moon", labels={"team": "a"}, tags=["x", "y"], org="acme")
    every = {"kind": "environment", "text": "blue", "org": "local", "labels": {"team": "a"}, "tags": ["y", "x"]}
    assert await everything(api, {**every, "selector": "!nothing"}) == ["Blue Sky"]
    assert await everything(api, {"kind": "environment", "tags": ["y"]}) == ["Blue Moon", "Blue Sun", "Blue Sky"]


async def test_text_is_part_of_a_name_a_slug_or_an_id(local: Api, make: Make) -> None:
    made = await make(local, "environment", "Größe", slug="size")
    await make(local, "environment", "Other")
    for text in ("GRÖßE", "siz", made.metadata.id, made.metadata.id[-5:].upper()):
        assert names(await local.list_all({"kind": "environment", "text": text})) == ["Größe"]


@pytest.mark.parametrize("kind", ["agent_execution", "workflow_execution"])
async def test_executions_are_listed_by_phase(local: Api, make: Make, kind: str) -> None:
    running, _ = await make(local, kind, "running"), await make(local, kind, "waiting")
    report = {"executionId": running.metadata.id, "status": {"phase": "EXECUTION_IN_PROGRESS"}}
    await local(kind, "updateStatus", report)
    assert await everything(local, {"kind": kind, "phase": "EXECUTION_IN_PROGRESS"}) == ["running"]
    assert await everything(local, {"kind": kind, "phase": "EXECUTION_PENDING"}) == ["waiting"]


async def test_resources_are_listed_by_what_they_belong_to(local: Api, make: Make) -> None:
    agent = await make(local, "agent", "One")
    workflow = await make(local, "workflow", "Flow")
    await make(local, "agent", "Other")
    await make(local, "workflow", "Other")
    for number in range(3):
        await make(local, "agent_instance", f"i{number}", spec={"agentId": agent.metadata.id})
    session = await make(local, "session", "talk", spec={"agentInstanceId": agent.status.default_instance_id})
    await make(local, "session", "elsewhere")
    await make(local, "agent_execution", "turn", spec={"sessionId": session.metadata.id})
    alone = await make(local, "agent_execution", "alone", spec={"agentId": agent.metadata.id})
    run = await make(local, "workflow_execution", "run", spec={"workflowId": workflow.metadata.id})
    await make(local, "workflow_execution", "elsewhere")
    context = {"executionId": run.metadata.id}
    await local("execution_context", "create", manifest("execution_context", "values", context))

    async def of(kind: str, id: str) -> list[str]:
        return await everything(local, {"kind": kind, "parentId": id})

    assert await of("agent_instance", agent.metadata.id) == ["i2", "i1", "i0", "One-default"]
    assert await of("session", agent.status.default_instance_id) == [
        (await local("session", "get", {"value": alone.spec.session_id})).metadata.name,
        "talk",
    ]
    assert (await of("session", agent.metadata.id))[1:] == ["talk"]
    assert await of("agent_execution", session.metadata.id) == ["turn"]
    assert await of("agent_execution", agent.metadata.id) == ["alone", "turn"]
    assert await of("workflow_instance", workflow.metadata.id) == ["Flow-default"]
    assert await of("workflow_execution", workflow.metadata.id) == ["run"]
    assert await of("workflow_execution", workflow.status.default_instance_id) == ["run"]
    assert await of("execution_context", run.metadata.id) == ["values"]
    assert await of("agent_instance", "agt-01jb6j0e8m4tz5v9k3w7x2y1qn") == []


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"kind": "platform"}, "kind"),
        ({"kind": "environment", "phase": "EXECUTION_PENDING"}, "phase"),
        ({"kind": "agent_execution", "phase": "PENDING"}, "phase"),
        ({"kind": "agent_execution", "phase": "EXECUTION_PHASE_UNSPECIFIED"}, "phase"),
        ({"kind": "environment", "selector": "a,"}, "selector"),
        ({"kind": "session", "parentId": "wfl-1"}, "parent_id"),
        ({"kind": "session", "parentId": "?"}, "parent_id"),
        ({"kind": "environment", "parentId": "env-1"}, "parent_id"),
        ({"kind": "session", "pageSize": 1001}, "page_size"),
    ],
)
async def test_a_list_that_cannot_be_is_invalid(local: Api, request_: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        await local.list_all(request_)
    assert [violation.field for violation in failure.value.violations] == [field]


async def test_a_cursor_belongs_to_its_list(local: Api, make: Make) -> None:
    for number in range(3):
        await make(local, "environment", f"n{number}")
    page = await local.list_all({"kind": "environment", "pageSize": 1})
    for other in ({"kind": "agent"}, {"kind": "environment", "selector": "x"}):
        with pytest.raises(InvalidArgumentError):
            await local.list_all({**other, "pageToken": page.next_page_token})


async def test_a_page_of_large_resources_is_a_short_one(local: Api, make: Make) -> None:
    for number in range(5):
        data = {"LARGE": {"value": "x" * 900_000}}
        await make(local, "environment", f"n{number}", spec={"data": data})
    first = await local.list_all({"kind": "environment"})
    assert (names(first), first.total_count) == (["n4", "n3"], 5)
    rest = await local.list_all({"kind": "environment", "pageToken": first.next_page_token})
    assert names(rest) == ["n2", "n1"]


async def test_a_caller_of_one_organization_sees_nothing_of_others(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        await make(api, "environment", "own", org="acme")
        await make(api, "environment", "foreign", org="local")
        resources = api.app.resources.on_behalf_of(Call(caller=Caller(id="key-1", org="acme")))
        kind = resources.kinds["environment"]
        for listing in (Listing(), Listing(org="acme"), Listing(selector=()), Listing(text="n")):
            listed = await list_(resources, kind, listing)
            assert [kind.parse(entry).metadata.name for entry in listed.entries] == ["own"]
            assert listed.total == 1
        with pytest.raises(DeniedError, match="'acme' only"):
            await list_(resources, kind, Listing(org="local"))
