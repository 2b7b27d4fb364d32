"""Every kind answers every verb of its services alike."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import AlreadyExistsError, InvalidArgumentError, NotFoundError
from stigmer_protos import descriptors

from stigmer_server.kinds import registry
from stigmer_server.messages import copied
from stigmer_server.testing import Api, manifest, serve

Make = Callable[..., Awaitable[Any]]


def kinds_with(verb: str) -> list[str]:
    """Return the kinds whose services have a method."""
    return [
        kind.name
        for kind in registry().values()
        for service in kind.described.services
        if verb in descriptors.pool().FindServiceByName(service).methods_by_name and kind.described.tier == "open"
    ]


CREATED = kinds_with("create")
APPLIED = kinds_with("apply")
UPDATED = kinds_with("update")
REFERRED = [kind for kind in kinds_with("getByReference") if kind != "skill"]


def test_every_open_kind_of_the_contract_is_served() -> None:
    open_kinds = {kind.enum_name for kind in descriptors.KINDS if kind.tier == "open"}
    assert set(registry()) == open_kinds | {"organization", "api_key"}


@pytest.mark.parametrize("kind", CREATED)
async def test_create_gives_id_slug_and_audit(api: Api, make: Make, kind: str) -> None:
    made = await make(api, kind, "My First  One")
    prefix = descriptors.kind_by_enum_name(kind).id_prefix
    assert re.fullmatch(rf"{prefix}-[0-9a-hjkmnp-tv-z]{{26}}", made.metadata.id)
    assert made.metadata.slug == "my-first-one"
    for info in (made.status.audit.spec_audit, made.status.audit.status_audit):
        assert info.event == "created"
        assert info.created_by.id == "system"
        assert info.created_at == info.updated_at
        assert info.created_at.seconds > 0


@pytest.mark.parametrize("kind", CREATED)
async def test_get_returns_what_create_returned(api: Api, make: Make, kind: str) -> None:
    made = await make(api, kind)
    assert await api(kind, "get", {"value": made.metadata.id}) == made


@pytest.mark.parametrize("kind", CREATED)
async def test_create_never_stores_a_status_that_the_client_sent(local: Api, make: Make, kind: str, specs: Any) -> None:
    sent = manifest(kind, "with status", await specs[kind](local))
    sent["status"] = {"audit": {"specAudit": {"event": "forged", "createdBy": {"id": "mallory"}}}}
    made = await local(kind, "create", sent)
    assert made.status.audit.spec_audit.event == "created"
    assert made.status.audit.spec_audit.created_by.id == "system"


@pytest.mark.parametrize("kind", CREATED)
async def test_the_request_is_not_changed(local: Api, kind: str, specs: Any) -> None:
    request = descriptors.message_type(descriptors.kind_by_enum_name(kind).message)()
    from google.protobuf.json_format import ParseDict

    ParseDict(manifest(kind, "untouched", await specs[kind](local)), request, descriptor_pool=descriptors.pool())
    before = copied(request)
    await local(kind, "create", request)
    assert request == before


@pytest.mark.parametrize("kind", [kind for kind in CREATED if registry()[kind].named])
async def test_a_slug_names_one_resource_of_an_organization(local: Api, make: Make, kind: str) -> None:
    first = await make(local, kind, "Taken")
    with pytest.raises(AlreadyExistsError, match=first.metadata.id):
        await make(local, kind, "taken")
    other = await make(local, kind, "Taken", org="other") if kind != "workflow_instance" else first
    assert other.metadata.slug == "taken"


async def test_slugs_of_agent_executions_may_repeat(local: Api, make: Make) -> None:
    first = await make(local, "agent_execution", "again")
    second = await make(local, "agent_execution", "again")
    assert first.metadata.slug == second.metadata.slug == "again"
    assert first.metadata.id != second.metadata.id


@pytest.mark.parametrize("kind", kinds_with("get"))
async def test_get_of_nothing_is_not_found(local: Api, kind: str) -> None:
    with pytest.raises(NotFoundError):
        await local(kind, "get", {"value": f"{descriptors.kind_by_enum_name(kind).id_prefix}-nothing"})


@pytest.mark.parametrize("kind", kinds_with("get"))
async def test_get_without_an_id_is_invalid(api: Api, kind: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await api(kind, "get", {})
    assert [violation.field for violation in caught.value.violations] == ["value"]


@pytest.mark.parametrize("kind", REFERRED)
async def test_get_by_reference_finds_by_slug_and_organization(api: Api, make: Make, kind: str) -> None:
    made = await make(api, kind, "Findable")
    for reference in ({"slug": "findable"}, {"slug": "findable", "org": "local", "kind": kind, "version": "latest"}):
        assert await api(kind, "getByReference", reference) == made
    with pytest.raises(NotFoundError):
        await api(kind, "getByReference", {"slug": "findable", "org": "elsewhere"})


@pytest.mark.parametrize("kind", kinds_with("getByReference"))
async def test_a_reference_needs_a_slug_and_the_right_kind(local: Api, kind: str) -> None:
    with pytest.raises(InvalidArgumentError):
        await local(kind, "getByReference", {})
    with pytest.raises(InvalidArgumentError):
        await local(kind, "getByReference", {"slug": "x", "kind": "organization"})


@pytest.mark.parametrize("kind", UPDATED)
async def test_update_replaces_the_spec_and_keeps_identity_and_status(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind, "Before", labels={"old": "1"})
    sent = copied(made)
    sent.metadata.name = "After"
    sent.metadata.labels.clear()
    sent.metadata.labels["new"] = "2"
    sent.status.audit.spec_audit.event = "forged"
    updated = await local(kind, "update", sent)
    assert (updated.metadata.id, updated.metadata.slug) == (made.metadata.id, "before")
    assert updated.metadata.name == "After"
    assert dict(updated.metadata.labels) == {"new": "2"}
    audit = updated.status.audit.spec_audit
    assert audit.event == "updated"
    assert audit.created_at == made.status.audit.spec_audit.created_at
    assert audit.updated_at.ToNanoseconds() > audit.created_at.ToNanoseconds()
    assert await local(kind, "get", {"value": made.metadata.id}) == updated


@pytest.mark.parametrize("kind", UPDATED)
async def test_update_of_nothing_is_not_found(local: Api, kind: str, specs: Any) -> None:
    prefix = descriptors.kind_by_enum_name(kind).id_prefix
    with pytest.raises(NotFoundError):
        await local(kind, "update", manifest(kind, "x", await specs[kind](local), id=f"{prefix}-nothing"))
    with pytest.raises(NotFoundError):
        await local(kind, "update", manifest(kind, "nobody", await specs[kind](local)))


@pytest.mark.parametrize("kind", UPDATED)
async def test_an_update_based_on_an_old_version_is_aborted(local: Api, make: Make, kind: str) -> None:
    from stigmer_grpc import AbortedError

    made = await make(local, kind)
    await local(kind, "update", made)
    with pytest.raises(AbortedError):
        await local(kind, "update", made)


@pytest.mark.parametrize("kind", [kind for kind in APPLIED if kind != "execution_context"])
async def test_applying_twice_writes_once(local: Api, make: Make, kind: str, specs: Any) -> None:
    sent = manifest(kind, "Applied", await specs[kind](local))
    first = await local(kind, "apply", sent)
    assert first.status.audit.spec_audit.event == "created"
    sequence = await local.app.resources.store.last_sequence()
    second = await local(kind, "apply", sent)
    assert second.status.audit.spec_audit.event == "unchanged"
    assert await local.app.resources.store.last_sequence() == sequence
    assert await local(kind, "get", {"value": first.metadata.id}) == first
    second.status.audit.spec_audit.event = "created"
    assert second == first
    sent["metadata"]["labels"] = {"team": "blue"}
    changed = await local(kind, "apply", sent)
    assert changed.metadata.id == first.metadata.id
    assert changed.metadata.labels["team"] == "blue"
    assert changed.status.audit.spec_audit.created_at == first.status.audit.spec_audit.created_at
    assert changed.status.audit.spec_audit.event == "updated"


async def test_an_execution_context_is_applied_once(local: Api, specs: Any) -> None:
    sent = manifest("execution_context", "once", await specs["execution_context"](local))
    await local("execution_context", "apply", sent)
    with pytest.raises(AlreadyExistsError):
        await local("execution_context", "apply", sent)


@pytest.mark.parametrize("kind", CREATED)
async def test_delete_returns_the_resource_and_it_is_gone(api: Api, make: Make, kind: str) -> None:
    made = await make(api, kind)
    field = "resourceId" if kind in ("environment", "execution_context", "mcp_server") else "value"
    assert await api(kind, "delete", {field: made.metadata.id}) == made
    with pytest.raises(NotFoundError):
        await api(kind, "get", {"value": made.metadata.id})
    with pytest.raises(NotFoundError):
        await api(kind, "delete", {field: made.metadata.id})


@pytest.mark.parametrize("kind", CREATED)
async def test_everything_survives_a_restart(tmp_path: Path, make: Make, kind: str) -> None:
    async with serve(tmp_path) as api:
        made = await make(api, kind, "Lasting")
    async with serve(tmp_path) as api:
        assert await api(kind, "get", {"value": made.metadata.id}) == made


async def test_an_earlier_version_is_found_by_its_number(local: Api, make: Make) -> None:
    made = await make(local, "agent", "Versioned")
    made.spec.instructions = "Answer in two sentences."
    second = await local("agent", "update", made)
    assert second.metadata.version.id == "2"
    assert second.metadata.version.previous_version_id == "1"
    old = await local("agent", "getByReference", {"slug": "versioned", "version": "1"})
    assert old.spec.instructions == "Answer every question in one sentence."
    assert await local("agent", "getByReference", {"slug": "versioned", "version": "2"}) == second
    with pytest.raises(NotFoundError):
        await local("agent", "getByReference", {"slug": "versioned", "version": "9"})
