"""The versions of a resource: who made them and why, what they were, and the way back to them."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from stigmer_protos import descriptors

from stigmer_server.calls import Call, Caller
from stigmer_server.commands.delete import delete_all
from stigmer_server.commands.rollback import rollback
from stigmer_server.commands.update import update
from stigmer_server.errors import MissingError
from stigmer_server.kinds import registry
from stigmer_server.messages import to_plain
from stigmer_server.queries.get_revision import get_revision
from stigmer_server.queries.list_revisions import list_revisions
from stigmer_server.testing import Api, manifest, serve

Make = Callable[..., Awaitable[Any]]
DRY_RUN = {"x-stigmer-dry-run": "true"}
NO_ROLLBACK = {name for name, kind in registry().items() if kind.no_rollback}


def changed(made: Any, why: str = "", **metadata: Any) -> dict[str, Any]:
    """Return the resource as a request that changes its metadata and says why."""
    request: dict[str, Any] = to_plain(made)
    request["metadata"] |= {**metadata, "version": {"message": why}}
    return request


async def revisions(api: Api, kind: str, made: Any, **request: Any) -> Any:
    return await api.any("listRevisions", {"kind": kind, "id": made.metadata.id, **request})


async def at(api: Api, kind: str, made: Any, version: str) -> Any:
    request = {"kind": kind, "id": made.metadata.id, "version": version}
    return (await api.any("getRevision", request)).resource


async def back(api: Api, kind: str, made: Any, version: str, why: str = "", **options: Any) -> Any:
    request = {"kind": kind, "id": made.metadata.id, "version": version, "message": why}
    return (await api.any("rollback", request, **options)).resource


async def test_a_version_says_what_made_it_who_why_and_when(api: Api, make: Make) -> None:
    made = await make(api, "environment", "Staging", version={"message": "to begin with"})
    await api("environment", "update", changed(made, "for the team", labels={"team": "blue"}))
    await api("environment", "apply", changed(made, "without a reason to", labels={"team": "blue"}))
    await back(api, "environment", made, "1", "it was better")
    listed = await revisions(api, "environment", made)
    told = [(entry.version, entry.event, entry.message, entry.current) for entry in listed.entries]
    assert told == [
        ("3", "rolled_back", "it was better", True),
        ("2", "updated", "for the team", False),
        ("1", "created", "to begin with", False),
    ]
    assert {entry.actor for entry in listed.entries} == {"system"}
    assert {(entry.tag, entry.hash) for entry in listed.entries} == {("", "")}
    assert (listed.total_count, listed.next_page_token) == (3, "")
    now = await api("environment", "get", {"value": made.metadata.id})
    assert (now.metadata.version.id, now.metadata.version.previous_version_id) == ("3", "2")
    assert now.metadata.version.message == "it was better"
    assert listed.entries[0].created_at.ToMicroseconds() >= now.status.audit.spec_audit.updated_at.ToMicroseconds()
    assert listed.entries[2].created_at.ToMicroseconds() < listed.entries[1].created_at.ToMicroseconds()


async def test_versions_are_listed_page_by_page(local: Api, make: Make) -> None:
    made = await make(local, "environment", "Many")
    for number in range(6):
        await local("environment", "update", changed(made, labels={"n": str(number)}))
    seen: list[str] = []
    token = ""
    while True:
        page = await revisions(local, "environment", made, pageSize=3, pageToken=token)
        assert page.total_count == 7
        seen += [entry.version for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["7", "6", "5", "4", "3", "2", "1"]
    other = await make(local, "environment", "Other")
    first = await revisions(local, "environment", made, pageSize=1)
    for request in ({"pageToken": "?"}, {"pageToken": first.next_page_token[:-2] + "AA"}):
        with pytest.raises(InvalidArgumentError) as failure:
            await revisions(local, "environment", made, **request)
        assert failure.value.violations[0].field == "page_token"
    with pytest.raises(InvalidArgumentError):
        await revisions(local, "environment", other, pageToken=first.next_page_token)


@pytest.mark.parametrize("kind", sorted(set(registry()) - {"skill", "organization", "api_key"}))
async def test_every_kind_has_versions(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind, "first", labels={"a": "1"})
    (only,) = (await revisions(local, kind, made)).entries
    assert (only.version, only.event, only.current) == ("1", "created", True)
    assert (await at(local, kind, made, "1"))["metadata"]["labels"]["a"] == "1"


@pytest.mark.parametrize("kind", sorted(set(registry()) - NO_ROLLBACK - {"skill", "organization", "api_key"}))
async def test_every_kind_that_changes_goes_back(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind, "first", labels={"a": "1"}, tags=["t"], annotations={"note": "x"})
    updated = await local(kind, "update", changed(made, name="second", labels={}, tags=[], annotations={}))
    assert updated.metadata.name == "second"
    returned = await back(local, kind, made, "1", "sorry")
    now = await local(kind, "get", {"value": made.metadata.id})
    assert to_plain(returned) == to_plain(now)
    for name in ("name", "labels", "tags", "annotations", "id", "slug", "org", "owner_scope"):
        assert getattr(now.metadata, name) == getattr(made.metadata, name)
    assert now.spec == made.spec
    audit = now.status.audit
    assert audit.spec_audit.created_at == made.status.audit.spec_audit.created_at
    for status in (now.status, made.status):
        status.ClearField("audit")
        if kind == "workflow":
            status.serverless_workflow_validation.ClearField("validated_at")
    assert now.status == made.status


@pytest.mark.parametrize("kind", sorted(NO_ROLLBACK - {"organization", "api_key"}))
async def test_records_of_what_has_run_do_not_go_back(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    with pytest.raises(FailedPreconditionError, match="not rolled back"):
        await back(local, kind, made, "1")


async def test_a_version_is_shown_as_it_was(local: Api, make: Make) -> None:
    made = await make(local, "agent", "One")
    await local("agent", "update", {**changed(made), "spec": {"instructions": "Answer in two sentences, please."}})
    first, second = await at(local, "agent", made, "1"), await at(local, "agent", made, "2")
    assert to_plain(first) == to_plain(made)
    assert second["spec"]["instructions"] == "Answer in two sentences, please."


@pytest.mark.parametrize("version", ["3", "0", "-1", "x", "latest", "9" * 30, "²", "a" * 64, "1\u0000", ""])
async def test_a_version_that_never_was_is_not_found(local: Api, make: Make, version: str) -> None:
    made = await make(local, "agent", "One")
    expected = NotFoundError if version else InvalidArgumentError
    for call in (at, back):
        with pytest.raises(expected):
            await call(local, "agent", made, version)
    with pytest.raises(NotFoundError):
        await local.any("listRevisions", {"kind": "agent", "id": "agt-none"})
    with pytest.raises(NotFoundError):
        await local.any("listRevisions", {"kind": "workflow", "id": made.metadata.id})
    with pytest.raises(InvalidArgumentError):
        await local.any("listRevisions", {"kind": "platform", "id": "x"})


async def test_going_back_to_what_is_there_writes_nothing(local: Api, make: Make) -> None:
    made = await make(local, "agent", "One")
    await local("agent", "update", changed(made, labels={"a": "1"}))
    events = [(await back(local, "agent", made, "1"))["status"]["audit"]["specAudit"]["event"] for _ in range(3)]
    assert events == ["updated", "unchanged", "unchanged"]
    listed = await revisions(local, "agent", made)
    assert [entry.event for entry in listed.entries] == ["rolled_back", "updated", "created"]


async def test_secrets_go_back_and_are_shown_to_nobody(tmp_path: Path, make: Make) -> None:
    def data(value: str) -> dict[str, Any]:
        return {"data": {"TOKEN": {"value": value, "isSecret": True}, "REGION": {"value": "eu"}}}

    async with serve(tmp_path) as api:
        made = await make(api, "environment", "Staging", spec=data("first secret"))
        await api("environment", "update", {**changed(made), "spec": data("second secret")})
        returned = await back(api, "environment", made, "1")
        old = await at(api, "environment", made, "1")
        for shown in (returned, old):
            assert shown["spec"]["data"]["TOKEN"]["value"] == "***REDACTED***"
        workflow = await make(api, "workflow", "Flow")
        await api(
            "workflow_instance",
            "update",
            {
                **to_plain(await api("workflow_instance", "get", {"value": workflow.status.default_instance_id})),
                "spec": {"workflowId": workflow.metadata.id, "envRefs": [{"kind": "environment", "slug": "staging"}]},
            },
        )
        run = await make(api, "workflow_execution", "run", spec={"workflowId": workflow.metadata.id})
        values = await environment(api, run.metadata.id)
        assert values["TOKEN"] == "first secret"
        # Sending the mask back keeps the value that came back.
        now = await api("environment", "get", {"value": made.metadata.id})
        await api("environment", "update", changed(now, labels={"a": "1"}))
        assert (await environment(api, run.metadata.id))["TOKEN"] == "first secret"
    with sqlite3.connect(tmp_path / "stigmer.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    assert "first secret" not in dump
    assert "second secret" not in dump


async def environment(api: Api, execution_id: str) -> dict[str, str]:
    """Return what a run gets, asked for within the server."""
    from stigmer_server import environments

    resources = api.app.resources

    def work(unit: Any) -> Any:
        return environments.of_execution(unit, "workflow_execution", unit.require("workflow_execution", execution_id))

    values = await resources.transact(work)
    return {name: layered.opened(name, resources.sealer) for name, layered in values.items()}


async def test_a_secret_whose_key_is_gone_cannot_go_back(tmp_path: Path, make: Make) -> None:
    def data(value: str) -> dict[str, Any]:
        return {"data": {"TOKEN": {"value": value, "isSecret": True}}}

    async with serve(tmp_path, encryption_key="aa" * 32) as api:
        made = await make(api, "environment", "Staging", spec=data("old"))
    async with serve(tmp_path, encryption_key="bb" * 32 + "," + "aa" * 32) as api:
        await api("environment", "update", {**changed(made), "spec": data("new")})
    async with serve(tmp_path, encryption_key="bb" * 32) as api:
        with pytest.raises(FailedPreconditionError, match="TOKEN"):
            await back(api, "environment", made, "1")
        assert len((await revisions(api, "environment", made)).entries) == 2


async def test_a_workflow_goes_back_with_all_that_follows_from_its_definition(local: Api, make: Make) -> None:
    made = await make(local, "workflow", "Flow")
    definition = made.spec.definition.replace("version: 0.1.0", "version: 0.2.0")
    updated = await local("workflow", "update", {**changed(made), "spec": {"definition": definition}})
    assert updated.spec.document.version == "0.2.0"
    await back(local, "workflow", made, "1")
    now = await local("workflow", "get", {"value": made.metadata.id})
    assert now.spec == made.spec
    assert now.status.serverless_workflow_validation.yaml == made.spec.definition
    assert now.status.default_instance_id == made.status.default_instance_id


async def test_a_version_that_breaks_the_rules_of_today_does_not_come_back(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        made = await make(api, "agent", "One")
        await api("agent", "update", changed(made, labels={"a": "1"}))
    with sqlite3.connect(tmp_path / "stigmer.db") as database:
        old = registry()["agent"].type.FromString(
            database.execute("SELECT wire FROM resource_history WHERE number = 1 AND kind = 'agent'").fetchone()[0]
        )
        old.spec.instructions = "short"
        wire = old.SerializeToString()
        database.execute("UPDATE resource_history SET wire = ? WHERE number = 1 AND kind = 'agent'", (wire,))
    database.close()
    async with serve(tmp_path) as api:
        with pytest.raises(InvalidArgumentError) as failure:
            await back(api, "agent", made, "1")
        assert failure.value.violations[0].field == "spec.instructions"


async def test_a_version_whose_parent_is_gone_does_not_come_back(local: Api, make: Make) -> None:
    agents = [await make(local, "agent", f"agent {number}") for number in range(2)]
    made = await make(local, "agent_instance", "moved", spec={"agentId": agents[0].metadata.id})
    await local("agent_instance", "update", {**changed(made), "spec": {"agentId": agents[1].metadata.id}})
    await local("agent", "delete", {"value": agents[0].metadata.id})
    with pytest.raises(NotFoundError, match="Agent not found"):
        await back(local, "agent_instance", made, "1")
    now = await local("agent_instance", "get", {"value": made.metadata.id})
    assert now.spec.agent_id == agents[1].metadata.id


async def test_an_update_that_knows_nothing_of_the_way_back_is_lost(local: Api, make: Make) -> None:
    made = await make(local, "environment", "Staging")
    updated = await local("environment", "update", changed(made, labels={"a": "1"}))
    await back(local, "environment", made, "1")
    stale = to_plain(updated)
    with pytest.raises(AbortedError, match="version 2"):
        await local("environment", "update", stale)


async def test_writers_and_the_way_back_do_not_lose_each_other(local: Api, make: Make) -> None:
    made = await make(local, "environment", "Staging", labels={"n": "0"})
    updates = [local("environment", "update", changed(made, labels={"n": str(n)})) for n in range(1, 11)]
    returns = [back(local, "environment", made, "1") for _ in range(10)]
    await asyncio.gather(*(call for pair in zip(updates, returns, strict=True) for call in pair))
    listed = (await revisions(local, "environment", made, pageSize=100)).entries
    assert [entry.version for entry in listed] == [str(n) for n in range(len(listed), 0, -1)]
    assert sum(entry.event == "updated" for entry in listed) == 10
    for entry in listed:
        label = (await at(local, "environment", made, entry.version))["metadata"]["labels"]["n"]
        assert (label == "0") == (entry.event != "updated")


async def test_a_dry_run_goes_back_without_going(local: Api, make: Make) -> None:
    made = await make(local, "environment", "Staging", labels={"a": "1"})
    updated = await local("environment", "update", changed(made, labels={}))
    shown = await back(local, "environment", made, "1", metadata=DRY_RUN)
    assert shown["metadata"]["labels"]["a"] == "1"
    assert shown["metadata"]["version"]["id"] == "3"
    assert await local("environment", "get", {"value": made.metadata.id}) == updated
    assert (await revisions(local, "environment", made)).total_count == 2


def packed(text: str, **others: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("SKILL.md", text)
        for name, content in others.items():
            archive.writestr(name, content)
    return buffer.getvalue()


async def push(api: Api, artifact: bytes, tag: str) -> Any:
    request: Any = descriptors.message_type("ai.stigmer.agentic.skill.v1.PushSkillRequest")
    return await api("skill", "push", request(name="House Style", scope=2, org="local", artifact=artifact, tag=tag))


async def test_a_skill_goes_back_to_a_tag_a_hash_or_a_number_with_its_archive(local: Api) -> None:
    archives = [packed("# Style\n", **{"run.py": bytes([65 + n])}) for n in range(3)]
    pushed = [await push(local, archive, tag) for archive, tag in zip(archives, ("one", "same", "same"), strict=True)]
    skill = pushed[0]
    listed = (await revisions(local, "skill", skill)).entries
    assert [(entry.version, entry.event, entry.tag, entry.hash) for entry in listed] == [
        (str(n + 1), "pushed", pushed[n].spec.tag, pushed[n].status.version_hash) for n in (2, 1, 0)
    ]
    for version, expected in (("one", 0), ("2", 1), (pushed[2].status.version_hash, 2), ("same", 2)):
        shown = await at(local, "skill", skill, version)
        assert shown["status"]["versionHash"] == pushed[expected].status.version_hash
        returned = await back(local, "skill", skill, version)
        now = await local("skill", "get", {"value": skill.metadata.id})
        assert to_plain(returned)["metadata"] == to_plain(now)["metadata"]
        for name in ("version_hash", "artifact_storage_key", "state"):
            assert getattr(now.status, name) == getattr(pushed[expected].status, name)
        got = await local("skill", "getArtifact", {"artifactStorageKey": now.status.artifact_storage_key})
        assert got.artifact == archives[expected]
        reference = {"slug": "house-style", "version": now.status.version_hash}
        assert await local("skill", "getByReference", reference) == now
    newest = (await revisions(local, "skill", skill)).entries[0]
    assert (newest.event, newest.tag, newest.hash) == ("rolled_back", "same", pushed[2].status.version_hash)


async def test_a_caller_of_one_organization_reaches_nothing_of_others(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        made = await make(api, "environment", "foreign", org="local")
        every = api.app.resources
        resources = every.on_behalf_of(Call(caller=Caller(id="key-1", org="acme")))
        kind, id = resources.kinds["environment"], made.metadata.id
        for verb in (
            list_revisions(resources, kind, id),
            get_revision(resources, kind, id, "1"),
            rollback(resources, kind, id, "1"),
            delete_all(resources, kind, id),
        ):
            with pytest.raises(MissingError):
                await verb
        author = every.on_behalf_of(Call(caller=Caller(id="ida-1")))
        request = kind.type()
        request.CopyFrom(made)
        request.metadata.labels["a"] = "1"
        await update(author, kind, request)
        assert [entry.actor for entry in (await list_revisions(every, kind, id)).entries] == ["ida-1", "system"]


async def test_the_history_of_an_older_database_knows_its_authors(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path) as api:
        made = await make(api, "environment", "Staging")
    with sqlite3.connect(tmp_path / "stigmer.db") as database:
        database.execute("UPDATE resource_history SET actor = ''")
    database.close()
    async with serve(tmp_path) as api:
        (entry,) = (await revisions(api, "environment", made)).entries
        assert entry.actor == "system"


async def test_whatever_is_deleted_is_told_in_order(api: Api, make: Make) -> None:
    agent = await make(api, "agent", "One")
    session = await make(api, "session", "talk", spec={"agentInstanceId": agent.status.default_instance_id})
    run = await make(api, "agent_execution", "turn", spec={"sessionId": session.metadata.id})
    request = {"kind": "agent", "id": agent.metadata.id}
    with pytest.raises(FailedPreconditionError, match="Session talk"):
        await api.any("delete", request)
    expected = [run.metadata.id, session.metadata.id, agent.status.default_instance_id, agent.metadata.id]
    for options in (
        {"request": {**request, "force": True}, "metadata": DRY_RUN},
        {"request": request, "metadata": {**DRY_RUN, "x-stigmer-force": "true"}},
    ):
        told = await api.any("delete", options["request"], metadata=options["metadata"])
        assert [entry.id for entry in told.entries] == expected
        assert (await api("agent", "get", {"value": agent.metadata.id})).metadata.id == agent.metadata.id
    told = await api.any("delete", {**request, "force": True})
    assert [entry.id for entry in told.entries] == expected
    assert [registry_name(entry.kind) for entry in told.entries] == [
        "agent_execution",
        "session",
        "agent_instance",
        "agent",
    ]
    assert [(entry.org, entry.slug) for entry in told.entries][-1] == ("local", "one")
    for kind, id in (("agent", agent.metadata.id), ("session", session.metadata.id)):
        with pytest.raises(NotFoundError):
            await api(kind, "get", {"value": id})
    with pytest.raises(NotFoundError):
        await api.any("delete", request)


def registry_name(number: int) -> str:
    return descriptors.kind_by_number(number).enum_name


@pytest.mark.parametrize("kind", sorted(set(registry()) - {"skill", "organization", "api_key"}))
async def test_every_kind_is_deleted_alike(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind)
    told = await local.any("delete", {"kind": kind, "id": made.metadata.id})
    assert told.entries[-1].id == made.metadata.id
    assert (await local.list_all({"kind": kind, "text": made.metadata.id})).total_count == 0
    with pytest.raises(NotFoundError):
        await local.any("listRevisions", {"kind": kind, "id": made.metadata.id})


async def test_the_reason_for_a_change_is_kept_by_every_verb(local: Api) -> None:
    request = manifest("environment", "Staging", {"data": {}}, version={"message": "one"})
    made = await local("environment", "apply", request)
    assert (made.metadata.version.id, made.metadata.version.message) == ("1", "one")
    request["metadata"] |= {"labels": {"a": "1"}, "version": {"message": "two"}}
    assert (await local("environment", "apply", request)).metadata.version.message == "two"
    request["metadata"]["version"] = {"message": "three"}
    unchanged = await local("environment", "apply", request)
    assert (unchanged.metadata.version.id, unchanged.metadata.version.message) == ("2", "two")
    request["metadata"] |= {"version": {}}
    assert (await local("environment", "update", request)).metadata.version.message == ""
