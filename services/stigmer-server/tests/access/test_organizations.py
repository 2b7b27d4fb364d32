"""Organizations: how they come and go, and that none sees anything of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RpcError,
)
from stigmer_protos import descriptors

from stigmer_server.access.testing import ACME, OTHER, House, key_manifest, opened, org_manifest
from stigmer_server.kinds import registry
from stigmer_server.testing import Api, manifest, serve

Make = Callable[..., Awaitable[Any]]
AGENT = {"instructions": "Answer every question in one sentence."}
EVENTS = "ai.stigmer.events.v1.EventController"
OPEN = sorted(kind.name for kind in registry().values() if kind.described.tier == "open")
MADE = [kind for kind in OPEN if kind != "skill"]
SHARED = sorted(kind.name for kind in registry().values() if kind.shared)


def slugs(found: Any) -> list[str]:
    return sorted(entry.metadata.slug for entry in found.entries)


async def test_there_is_one_from_the_start(tmp_path: Path) -> None:
    for _ in range(2):
        async with serve(tmp_path) as api:
            assert slugs(await api("organization", "findMyOrganizations", {})) == ["local"]
    async with serve(tmp_path) as api:
        await api("organization", "apply", org_manifest("acme"))
        (local,) = (await api("organization", "find", {"org": "local"})).entries
        await api("organization", "delete", {"value": local.metadata.id})
    async with serve(tmp_path) as api:
        assert slugs(await api("organization", "findMyOrganizations", {})) == ["acme"]


async def test_an_organization_belongs_to_itself(local: Api) -> None:
    made = await local("organization", "create", {**org_manifest("acme"), "metadata": {"name": "ACME Works"}})
    assert (made.metadata.slug, made.metadata.org) == ("acme-works", "acme-works")
    made.spec.description = "Anvils"
    made.metadata.org = "elsewhere"
    changed = await local("organization", "update", made)
    assert (changed.metadata.org, changed.spec.description) == ("acme-works", "Anvils")
    assert (await local("organization", "get", {"value": made.metadata.id})) == changed
    same = await local("organization", "apply", {**org_manifest("acme-works"), "spec": {"description": "Anvils"}})
    assert same.metadata.id == made.metadata.id


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"name": "x", "slug": "No"}, "metadata.slug.chars"),
        ({"name": "x", "slug": "a" * 64}, "metadata.slug.length"),
        ({"name": "a" * 64}, "metadata.slug.length"),
        ({"name": "!!!"}, "metadata.name.sluggable"),
    ],
)
async def test_a_slug_has_rules(local: Api, metadata: dict[str, str], rule: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await local("organization", "create", {**org_manifest("x"), "metadata": metadata})
    assert rule in {violation.rule_id for violation in caught.value.violations}


async def test_find_goes_by_slug_and_pages(local: Api) -> None:
    for slug in ("a", "b"):
        await local("organization", "create", org_manifest(slug))
    found = await local("organization", "find", {"org": "a", "kind": "Organization"})
    assert (slugs(found), found.total_pages) == (["a"], 1)
    assert slugs(await local("organization", "find", {"org": "none"})) == []
    assert slugs(await local("organization", "find", {"org": "a", "pageNumber": 2, "pageSize": 1})) == []
    with pytest.raises(InvalidArgumentError):
        await local("organization", "find", {"org": "a", "kind": "Agent"})


async def test_one_that_has_resources_is_deleted_by_force_only_and_they_with_it(house: House, make: Make) -> None:
    api = house.api
    run = await make(api, "workflow_execution", org=ACME)
    kept = await make(api, "agent", org=OTHER)
    key = await api("api_key", "create", key_manifest("k", "editor"))
    (found,) = (await api("organization", "find", {"org": ACME})).entries
    with pytest.raises(FailedPreconditionError, match="Workflow"):
        await api("organization", "delete", {"value": found.metadata.id})
    forced = {"x-stigmer-force": "true"}
    await api("organization", "delete", {"value": found.metadata.id}, metadata=forced)
    for kind, id in (("workflow_execution", run.metadata.id), ("api_key", key.metadata.id)):
        with pytest.raises(NotFoundError):
            await api(kind, "get", {"value": id})
    for kind in registry().values():
        listed = await api.list_all({"kind": kind.name, "org": ACME})
        assert listed.total_count == 0
    await api("agent", "get", {"value": kept.metadata.id})


async def test_a_large_one_goes_little_by_little_and_its_resources_in_order(
    house: House, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stigmer_server.commands.delete._BATCH", 5)
    monkeypatch.setattr("stigmer_server.commands.delete._TOLD", 8)
    api = house.api
    for number in range(4):
        workflow = await make(api, "workflow", f"flow {number}", org=ACME)
        await make(api, "workflow_execution", f"run {number}", spec={"workflowId": workflow.metadata.id}, org=ACME)
        event = {"source": "/shop", "type": "order", "jsonData": {"number": number}}
        await api.channel.service(EVENTS).unary("publish", {"org": ACME, "events": [event] * 4})
    owner = await house.as_("owner")
    (found,) = (await api("organization", "find", {"org": ACME})).entries
    request = {"kind": "organization", "id": found.metadata.id, "force": True}
    dry = await owner.any("delete", request, metadata={"x-stigmer-dry-run": "true"})
    assert (await api.list_all({"kind": "workflow_execution", "org": ACME})).total_count == 4
    told = await owner.any("delete", request)
    assert told.total_count == dry.total_count == 4 * 3 + 2
    kinds = [descriptors.kind_by_number(entry.kind).enum_name for entry in told.entries]
    executions, instances = ["workflow_execution"] * 4, ["workflow_instance"] * 4
    assert kinds == [*executions, *instances, "organization"]
    assert [entry.id for entry in dry.entries] == [entry.id for entry in told.entries]
    await api("organization", "apply", org_manifest(ACME))
    assert not (await api.channel.service(EVENTS).unary("list", {"org": ACME})).entries
    for kind in registry().values():
        assert (await api.list_all({"kind": kind.name, "org": ACME})).total_count == (kind.name == "organization")


async def test_a_deletion_that_is_refused_counts_no_further_than_it_must(
    house: House, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stigmer_server.commands.delete._COUNTED", 6)
    for number in range(8):
        await make(house.api, "environment", f"place {number}", org=ACME)
    (found,) = (await house.api("organization", "find", {"org": ACME})).entries
    with pytest.raises(FailedPreconditionError, match=r"Environment place-0 .* and more than 1 others; delete those"):
        await house.api("organization", "delete", {"value": found.metadata.id})


async def test_one_that_has_only_keys_is_deleted_with_them(house: House) -> None:
    owner = await house.as_("owner")
    (found,) = (await owner("organization", "findMyOrganizations", {})).entries
    assert found.metadata.slug == ACME
    deleted = await owner("organization", "delete", {"value": found.metadata.id})
    assert deleted.metadata.slug == ACME
    with pytest.raises(RpcError) as caught:
        await owner("organization", "findMyOrganizations", {})
    assert caught.value.code.name == "UNAUTHENTICATED"


async def test_an_owner_manages_its_own_and_makes_no_other(house: House) -> None:
    owner = await house.as_("owner")
    changed = await owner("organization", "apply", {**org_manifest(ACME), "spec": {"description": "Anvils"}})
    assert changed.spec.description == "Anvils"
    told: set[str] = set()
    for slug in (OTHER, "fresh"):
        with pytest.raises(PermissionDeniedError) as caught:
            await owner("organization", "apply", org_manifest(slug))
        told.add(caught.value.message)
    # Whether there is such an organization is not to be learnt from the refusal.
    assert len(told) == 1
    with pytest.raises(PermissionDeniedError):
        await owner("organization", "create", org_manifest("fresh"))


async def test_with_callers_told_apart_an_organization_has_to_exist(house: House, make: Make, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Organization"):
        await make(house.api, "agent", org="nowhere")
    with pytest.raises(NotFoundError, match="Organization"):
        await house.api("skill", "push", await pushed("nowhere"))
    await make(house.api, "agent", org="local")
    async with serve(tmp_path / "open") as api:
        await make(api, "agent", org="nowhere")


async def pushed(org: str, text: str = "Do well.") -> dict[str, Any]:
    import base64
    import io
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # With a time of its own an archive is another one every two seconds.
        archive.writestr(zipfile.ZipInfo("SKILL.md"), f"---\nname: tidy\ndescription: Tidy up.\n---\n{text}")
    return {
        "name": "tidy",
        "scope": "organization",
        "org": org,
        "artifact": base64.b64encode(content.getvalue()).decode(),
    }


async def made_in(house: House, make: Make, kind: str, org: str) -> Any:
    if kind == "skill":
        return await house.api("skill", "push", await pushed(org))
    # Parents are made in the organization `local`, so every kind is made through one that has none.
    return await make_in_org(house.api, kind, org)


async def make_in_org(api: Api, kind: str, org: str) -> Any:
    """Create a resource with all that it needs in an organization."""
    parents = {
        "agent_instance": ("agent", "agentId"),
        "session": ("agent_instance", "agentInstanceId"),
        "agent_execution": ("agent", "agentId"),
        "workflow_instance": ("workflow", "workflowId"),
        "workflow_execution": ("workflow", "workflowId"),
    }
    specs: dict[str, dict[str, Any]] = {
        "agent": AGENT,
        "agent_execution": {"message": "go"},
        "workflow": {
            "definition": "document: {dsl: 1.0.0, namespace: t, name: f, version: 0.1.0}\ndo: [{a: {set: {b: 1}}}]\n"
        },
        "environment": {"data": {"TOKEN": {"value": "s3cret", "isSecret": True}}},
        "execution_context": {"executionId": "wex-1", "data": {"A": {"value": "b"}}},
        "mcp_server": {"stdio": {"command": "serve-tools"}},
    }
    spec = dict(specs.get(kind, {}))
    if kind in parents:
        parent, field = parents[kind]
        spec[field] = (await make_in_org(api, parent, org)).metadata.id
    count = (await api.list_all({"kind": kind})).total_count
    return await api(kind, "create", manifest(kind, f"{kind} {count}", spec, org=org))


def requests(kind: str, made: Any) -> list[tuple[Any, Any]]:
    """Return every method that is about one resource, with a request about this one."""
    found: list[tuple[Any, Any]] = []
    generic = [f"ai.stigmer.resources.v1.{name}" for name in ("ResourceController", "ResourceCommandController")]
    runtime = "ai.stigmer.runtime.v1.ExecutionRuntimeController"
    names = [*descriptors.kind_by_enum_name(kind).services, *generic, *([runtime] if "execution" in kind else [])]
    for name in names:
        for method in descriptors.pool().FindServiceByName(name).methods:
            request = request_about(method, kind, made)
            if request is not None:
                found.append((method, request))
    return found


OTHERS: dict[str, Any] = {
    "version": "1",
    "signal_name": "go",
    "tool_call_id": "call",
    "text": "hello",
    "action": 1,
    "task_name": "task",
    "outcome": "approved",
    "temporal_workflow_id": "run",
    "content": b"x",
}


def request_about(method: Any, kind: str, made: Any) -> Any:
    request: Any = descriptors.message_type(method.input_type.full_name)()
    fields = method.input_type.fields_by_name
    if method.input_type.full_name == descriptors.kind_by_enum_name(kind).message:
        request.CopyFrom(made)
        return request if method.name == "update" else None
    if method.name == "getByReference":
        request.org, request.slug = made.metadata.org, made.metadata.slug
        return request
    name = next((name for name in ("value", "resource_id", "execution_id", "id") if name in fields), None)
    if name is None or method.name in ("list", "watch", "listBySession") or method.client_streaming:
        return None
    setattr(request, name, made.metadata.id)
    if "kind" in fields:
        request.kind = descriptors.kind_by_enum_name(kind).number
    for other, value in OTHERS.items():
        if other in fields and other != name:
            setattr(request, other, value)
    if "status" in fields:
        request.status.SetInParent()
    return request


async def code_of(api: Api, method: Any, request: Any) -> str:
    stub = api.channel.service(method.containing_service.full_name)
    try:
        async with asyncio.timeout(10):
            if method.server_streaming:
                await anext(stub.stream(method.name, request))
            else:
                await stub.unary(method.name, request)
    except RpcError as error:
        return error.code.name
    return "OK"


@pytest.mark.parametrize("kind", OPEN)
async def test_what_is_anothers_is_not_found_by_any_method(house: House, make: Make, kind: str) -> None:
    theirs = await made_in(house, make, kind, OTHER)
    owner = await house.as_("owner")
    tried = 0
    for method, request in requests(kind, theirs):
        code = await code_of(owner, method, request)
        if code in ("PERMISSION_DENIED", "FAILED_PRECONDITION"):
            # Refused for the role or the kind alone: whatever the resource, and whether or not it is there.
            request_of_none = request_about(method, kind, none_like(theirs))
            assert await code_of(owner, method, request_of_none) == code, method.full_name
            continue
        assert code in ("NOT_FOUND", "UNIMPLEMENTED"), f"{method.full_name}: {code}"
        tried += code == "NOT_FOUND"
    assert tried >= (0 if kind == "execution_context" else 5)
    assert (await house.api(kind, "get", {"value": theirs.metadata.id})).metadata.id == theirs.metadata.id


def none_like(made: Any) -> Any:
    copy = type(made)()
    copy.CopyFrom(made)
    prefix = made.metadata.id.partition("-")[0]
    copy.metadata.id, copy.metadata.slug = f"{prefix}-01jb6j0e8m4tz5v9k3w7x2y1qn", "nothing"
    return copy


@pytest.mark.parametrize("kind", [kind for kind in OPEN if kind != "execution_context"])
async def test_a_list_has_the_callers_own_and_counts_no_other(house: House, make: Make, kind: str) -> None:
    mine, _ = await made_in(house, make, kind, ACME), await made_in(house, make, kind, OTHER)
    viewer = await house.as_("viewer")
    listed = await viewer.list_all({"kind": kind, "pageSize": 1000})
    orgs = {entry["metadata"]["org"] for entry in listed.entries}
    assert orgs == {ACME}
    assert mine.metadata.id in {entry["metadata"]["id"] for entry in listed.entries}
    assert listed.total_count == len(listed.entries)
    with pytest.raises(PermissionDeniedError):
        await viewer.list_all({"kind": kind, "org": OTHER})
    for service in descriptors.kind_by_enum_name(kind).services:
        for method in descriptors.pool().FindServiceByName(service).methods:
            if method.name == "list":
                entries = (await viewer(kind, "list", {})).entries
                assert {entry.metadata.org for entry in entries} == {ACME}


async def test_what_is_created_without_an_organization_is_the_callers(house: House, make: Make) -> None:
    editor = await house.as_("editor")
    for verb in ("create", "apply"):
        made = await editor("agent", verb, manifest("agent", f"by {verb}", AGENT, org=""))
        assert made.metadata.org == ACME
        assert made.status.audit.spec_audit.created_by.id.startswith("key-")
    run = manifest("agent_execution", "run", {"agentId": made.metadata.id, "message": "go"}, org="")
    assert (await editor("agent_execution", "create", run)).metadata.org == ACME
    assert (await editor("skill", "push", await pushed(""))).metadata.org == ACME


async def test_nothing_is_created_in_another_or_on_the_platform(house: House, make: Make) -> None:
    owner = await house.as_("owner")
    for org in (OTHER, "nowhere"):
        for verb in ("create", "apply"):
            with pytest.raises(NotFoundError, match=f"Organization not found: {org}"):
                await owner("agent", verb, manifest("agent", "x", AGENT, org=org))
        with pytest.raises(NotFoundError, match=f"Organization not found: {org}"):
            await owner("skill", "push", await pushed(org))
    for scope in ("create", "apply"):
        with pytest.raises(PermissionDeniedError, match="platform"):
            await owner("agent", scope, manifest("agent", "x", AGENT, org="", ownerScope="platform"))
    with pytest.raises(PermissionDeniedError, match="platform"):
        await owner("skill", "push", {**await pushed(""), "scope": "platform"})


async def test_what_is_anothers_cannot_be_run_or_built_upon(house: House, make: Make) -> None:
    workflow = await made_in(house, make, "workflow", OTHER)
    agent = await made_in(house, make, "agent", OTHER)
    session = await made_in(house, make, "session", OTHER)
    editor = await house.as_("editor")
    for kind, spec in (
        ("workflow_instance", {"workflowId": workflow.metadata.id}),
        ("workflow_execution", {"workflowId": workflow.metadata.id}),
        ("workflow_execution", {"workflowInstanceId": workflow.status.default_instance_id}),
        ("agent_instance", {"agentId": agent.metadata.id}),
        ("agent_execution", {"agentId": agent.metadata.id, "message": "go"}),
        ("agent_execution", {"sessionId": session.metadata.id, "message": "go"}),
        ("session", {"agentInstanceId": agent.status.default_instance_id}),
    ):
        with pytest.raises(NotFoundError):
            await editor(kind, "create", manifest(kind, "x", spec, org=""))


async def test_references_lead_to_the_callers_own_or_the_platforms(house: House, make: Make) -> None:
    editor = await house.as_("editor")
    skill = {"kind": "skill", "slug": "tidy", "org": OTHER}
    for field, spec in (
        ("spec.skill_refs[0].org", {**AGENT, "skillRefs": [skill]}),
        (
            "spec.sub_agents[0].skill_refs[0].org",
            {**AGENT, "subAgents": [{"name": "s", "instructions": AGENT["instructions"], "skillRefs": [skill]}]},
        ),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            await editor("agent", "create", manifest("agent", "x", spec, org=""))
        assert {violation.field for violation in caught.value.violations} == {field}
    made = await editor(
        "agent", "create", manifest("agent", "x", {**AGENT, "skillRefs": [{**skill, "org": ""}]}, org="")
    )
    made.spec.skill_refs[0].org = OTHER
    with pytest.raises(InvalidArgumentError):
        await editor("agent", "update", made)


async def test_an_environment_of_another_is_not_given_even_if_it_was_named_before(tmp_path: Path) -> None:
    """Written while everybody was let in, when nobody was stopped from naming it."""
    async with serve(tmp_path) as api:
        for slug in (ACME, OTHER):
            await api("organization", "apply", org_manifest(slug))
        await api("environment", "create", manifest("environment", "prod", {"data": {"A": {"value": "b"}}}, org=OTHER))
        agent = await api("agent", "create", manifest("agent", "a", AGENT, org=ACME))
        reference = {"kind": "environment", "slug": "prod", "org": OTHER}
        spec = {"agentId": agent.metadata.id, "environmentRefs": [reference]}
        instance = await api("agent_instance", "create", manifest("agent_instance", "i", spec, org=ACME))
        talk = {"agentInstanceId": instance.metadata.id}
        session = await api("session", "create", manifest("session", "s", talk, org=ACME))
        run = manifest("agent_execution", "r", {"sessionId": session.metadata.id, "message": "go"}, org=ACME)
        execution = await api("agent_execution", "create", run)
        assert (await api.environment(execution.metadata.id)).values["A"].value == "b"
    async with opened(tmp_path) as house:
        runner = await house.as_("runner")
        with pytest.raises(FailedPreconditionError, match="other/prod"):
            await runner.environment(execution.metadata.id)


@pytest.mark.parametrize("kind", SHARED)
async def test_the_platforms_is_everybodys_to_use_and_the_operators_to_change(
    house: House, make: Make, kind: str
) -> None:
    operator = await house.as_("operator")
    if kind == "skill":
        shared = await operator("skill", "push", {**await pushed(""), "scope": "platform"})
    else:
        shared = await platform(operator, kind)
    for org in (ACME, OTHER):
        owner = await house.as_("owner", org)
        assert (await owner(kind, "get", {"value": shared.metadata.id})).metadata.id == shared.metadata.id
        found = await owner(kind, "getByReference", {"slug": shared.metadata.slug})
        assert found.metadata.id == shared.metadata.id
        listed = await owner.list_all({"kind": kind})
        assert shared.metadata.id in {entry["metadata"]["id"] for entry in listed.entries}
        for method, request in requests(kind, shared):
            if method.name in ("update", "delete", "rollback"):
                assert await code_of(owner, method, request) == "PERMISSION_DENIED", method.full_name


async def platform(operator: Api, kind: str) -> Any:
    specs: dict[str, Any] = {"agent": AGENT, "mcp_server": {"stdio": {"command": "serve-tools"}}}
    if kind == "workflow":
        specs[kind] = (await make_in_org(operator, "workflow", ACME)).spec.definition
        specs[kind] = {"definition": specs[kind]}
    if kind == "agent_instance":
        specs[kind] = {"agentId": (await platform(operator, "agent")).metadata.id}
    if kind == "workflow_instance":
        specs[kind] = {"workflowId": (await platform(operator, "workflow")).metadata.id}
    return await operator(kind, "create", manifest(kind, f"shared {kind}", specs[kind], org="", ownerScope="platform"))


async def test_the_platforms_workflow_runs_in_the_callers_organization(house: House) -> None:
    operator = await house.as_("operator")
    workflow = await platform(operator, "workflow")
    editor = await house.as_("editor")
    spec = {"workflowId": workflow.metadata.id}
    run = await editor("workflow_execution", "create", manifest("workflow_execution", "r", spec, org=""))
    assert run.metadata.org == ACME
    other = await house.as_("viewer", OTHER)
    with pytest.raises(NotFoundError):
        await other("workflow_execution", "get", {"value": run.metadata.id})
    runner = await house.as_("runner")
    given = await runner.runtime("getWorkflowRun", run.metadata.id)
    assert (given.org, given.workflow.metadata.id) == (ACME, workflow.metadata.id)


async def test_ones_own_goes_before_the_platforms(house: House) -> None:
    operator, editor = await house.as_("operator"), await house.as_("editor")
    await platform(operator, "agent")
    mine = await editor("agent", "create", manifest("agent", "shared agent", AGENT, org=""))
    found = await editor("agent", "getByReference", {"slug": "shared-agent"})
    assert found.metadata.id == mine.metadata.id
    with pytest.raises(NotFoundError):
        await editor("agent", "getByReference", {"slug": "shared-agent", "org": OTHER})


async def test_an_archive_is_its_skills_readers(house: House) -> None:
    theirs = await house.api("skill", "push", await pushed(OTHER))
    key = {"artifactStorageKey": theirs.status.artifact_storage_key}
    viewer, other = await house.as_("viewer"), await house.as_("viewer", OTHER)
    assert (await other("skill", "getArtifact", key)).artifact
    with pytest.raises(NotFoundError):
        await viewer("skill", "getArtifact", key)
    with pytest.raises(NotFoundError):
        await anext(viewer.stream("skill", "getArtifactParts", key))
    await house.api("skill", "push", await pushed(ACME))
    await house.api("skill", "push", await pushed(ACME, "Do better."))
    # The same bytes are an earlier version of a skill of its own.
    assert (await viewer("skill", "getArtifact", key)).artifact


async def test_a_watch_tells_of_ones_own_and_the_platforms_and_of_no_keys(house: House) -> None:
    viewer = await house.as_("viewer")
    stub = viewer.channel.service("ai.stigmer.resources.v1.ResourceController")
    async with asyncio.timeout(20), stub.stream("watch", {}) as events:
        await anext(events)
        await house.api("agent", "create", manifest("agent", "theirs", AGENT, org=OTHER))
        await house.api("api_key", "create", key_manifest("silent", "viewer"))
        await platform(await house.as_("operator"), "agent")
        await house.api("agent", "create", manifest("agent", "mine", AGENT, org=ACME))
        told: list[tuple[str, str]] = []
        async for event in events:
            told.append((event.resource.org, event.resource.slug))
            if event.resource.slug == "mine":
                break
    assert set(told) == {("", "shared-agent-default"), ("", "shared-agent"), (ACME, "mine-default"), (ACME, "mine")}
