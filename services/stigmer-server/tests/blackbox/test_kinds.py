"""What every kind's RPCs do alike: create, apply, update, delete, get, getByReference."""

from __future__ import annotations

import re
from typing import Any

import pytest
from stigmer_protos import descriptors

OPEN = [kind for kind in descriptors.KINDS if kind.tier == "open"]
UNNAMED = frozenset({"agent_execution"})
"""Kinds whose slugs may repeat."""
SCOPED = frozenset({"agent", "workflow", "session", "environment", "workflow_execution"})
"""Kinds that have to belong to somebody."""
UNSCOPED = frozenset({"agent_execution", "execution_context"})
"""Kinds that belong to nobody but what they were made for."""


def each(method: str, *codes: str, but: frozenset[str] = frozenset(), only: frozenset[str] | None = None) -> list[Any]:
    """Return the kinds that have a method, each marked with what is shown of it."""
    found = [
        kind.enum_name
        for kind in OPEN
        for service in kind.services
        if method in descriptors.pool().FindServiceByName(service).methods_by_name
    ]
    return [
        pytest.param(kind, marks=[pytest.mark.rpc(f"{kind}/{method}", code) for code in codes or ("OK",)])
        for kind in found
        if kind not in but and (only is None or kind in only)
    ]


# create


@pytest.mark.parametrize("kind", each("create"))
def test_create_makes_a_resource(client: Any, make: Any, kind: str) -> None:
    sent = make.manifest(kind, "My First  One", labels={"a": "1"}, annotations={"b": "2"}, tags=["c"])
    made = client(f"{kind}/create", {**sent, "status": {"audit": {"specAudit": {"event": "forged"}}}})
    metadata, audit = made.metadata, made.status.audit
    prefix = descriptors.kind_by_enum_name(kind).id_prefix
    assert re.fullmatch(rf"{prefix}-[0-9a-hjkmnp-tv-z]{{26}}", metadata.id)
    assert (metadata.slug, metadata.name, metadata.org) == ("my-first-one", "My First  One", client.org)
    assert (dict(metadata.labels), dict(metadata.annotations), list(metadata.tags)) == ({"a": "1"}, {"b": "2"}, ["c"])
    assert (metadata.version.id, metadata.version.previous_version_id) == ("1", "")
    assert audit.spec_audit.event == audit.status_audit.event == "created"
    assert audit.spec_audit.created_at == audit.spec_audit.updated_at
    assert audit.spec_audit.created_by.id


@pytest.mark.parametrize("kind", each("create", "INVALID_ARGUMENT"))
def test_create_holds_to_the_contract(client: Any, make: Any, kind: str) -> None:
    sent = make.manifest(kind, "Wrong")
    assert client.refused(f"{kind}/create", None, "INVALID_ARGUMENT").fields["metadata"] == "required"
    error = client.refused(f"{kind}/create", {**sent, "apiVersion": "v0", "kind": "Agnet"}, "INVALID_ARGUMENT")
    assert {**error.fields, "api_version": "string.const", "kind": "string.const"} == error.fields
    error = client.refused(f"{kind}/create", {**sent, "metadata": {**sent["metadata"], "name": ""}}, "INVALID_ARGUMENT")
    assert error.fields == {"metadata.name": "metadata.name.required"}
    error = client.refused(f"{kind}/create", make.manifest(kind, "x", slug="Not A Slug"), "INVALID_ARGUMENT")
    assert error.fields == {"metadata.slug": "metadata.slug.format"}
    error = client.refused(f"{kind}/create", make.manifest(kind, "x", id="mine"), "INVALID_ARGUMENT")
    assert error.fields == {"metadata.id": "metadata.id.format"}


@pytest.mark.parametrize("kind", each("create", "INVALID_ARGUMENT", only=SCOPED | UNSCOPED))
def test_create_holds_to_the_scopes_of_the_kind(client: Any, make: Any, kind: str) -> None:
    wrong = "organization" if kind in UNSCOPED else "api_resource_owner_scope_unspecified"
    error = client.refused(f"{kind}/create", make.manifest(kind, "x", ownerScope=wrong), "INVALID_ARGUMENT")
    assert list(error.fields) == ["metadata"]
    assert error.fields["metadata"].startswith(f"{kind}.owner_scope.")


@pytest.mark.parametrize("kind", each("create", "ALREADY_EXISTS", but=UNNAMED))
def test_a_slug_is_taken_once_in_an_organization(client: Any, make: Any, kind: str) -> None:
    made = make(kind, "Taken")
    error = client.refused(f"{kind}/create", make.manifest(kind, "taken"), "ALREADY_EXISTS")
    assert made.metadata.id in error.message
    assert error.message.count("already exists") == 1


@pytest.mark.parametrize("kind", each("create", "ALREADY_EXISTS"))
def test_an_id_is_taken_once(client: Any, make: Any, kind: str) -> None:
    made = make(kind, "First")
    error = client.refused(f"{kind}/create", make.manifest(kind, "Second", id=made.metadata.id), "ALREADY_EXISTS")
    assert made.metadata.id in error.message


PARENTS = {
    "agent_instance": ("agentId", "Agent", "agt-nothing"),
    "session": ("agentInstanceId", "AgentInstance", "ain-nothing"),
    "agent_execution": ("sessionId", "Session", "ses-nothing"),
    "workflow_instance": ("workflowId", "Workflow", "wfl-nothing"),
    "workflow_execution": ("workflowInstanceId", "WorkflowInstance", "win-nothing"),
}


@pytest.mark.parametrize("kind", each("create", "NOT_FOUND", only=frozenset(PARENTS)))
def test_create_needs_the_parent(client: Any, make: Any, kind: str) -> None:
    field, title, id = PARENTS[kind]
    error = client.refused(f"{kind}/create", make.manifest(kind, "orphan", spec={field: id}), "NOT_FOUND")
    assert error.message == f"{title} not found: {id}"


# apply


@pytest.mark.parametrize("kind", each("apply"))
def test_apply_makes_what_is_not_there(client: Any, make: Any, kind: str) -> None:
    made = client(f"{kind}/apply", make.manifest(kind, "Applied"))
    assert made.status.audit.spec_audit.event == "created"
    assert client(f"{kind}/get", client.named(f"{kind}/get", made.metadata.id)) == made


@pytest.mark.parametrize("kind", each("apply", but=frozenset({"execution_context"})))
def test_apply_says_when_it_changed_nothing(client: Any, make: Any, kind: str) -> None:
    sent = make.manifest(kind, "Applied")
    first = client(f"{kind}/apply", sent)
    second = client(f"{kind}/apply", sent)
    assert second.status.audit.spec_audit.event == "unchanged"
    assert client(f"{kind}/get", {"value": first.metadata.id}) == first


@pytest.mark.parametrize("kind", each("apply", but=frozenset({"execution_context"})))
def test_apply_changes_what_is_there(client: Any, make: Any, kind: str) -> None:
    sent = make.manifest(kind, "Applied")
    first = client(f"{kind}/apply", sent)
    sent["metadata"]["labels"] = {"team": "blue"}
    changed = client(f"{kind}/apply", sent)
    assert (changed.metadata.id, changed.metadata.version.id) == (first.metadata.id, "2")
    assert dict(changed.metadata.labels) == {"team": "blue"}
    assert changed.status.audit.spec_audit.event == "updated"
    assert changed.status.audit.spec_audit.created_at == first.status.audit.spec_audit.created_at


@pytest.mark.parametrize("kind", each("apply", "INVALID_ARGUMENT"))
def test_apply_holds_to_the_contract(client: Any, make: Any, kind: str) -> None:
    assert client.refused(f"{kind}/apply", None, "INVALID_ARGUMENT").fields["metadata"] == "required"
    error = client.refused(f"{kind}/apply", make.manifest(kind, "___"), "INVALID_ARGUMENT")
    assert error.fields == {"metadata.name": "metadata.name.sluggable"}


@pytest.mark.parametrize("kind", each("apply", "ALREADY_EXISTS", but=frozenset({"execution_context"})))
def test_apply_takes_no_slug_from_another_id(client: Any, make: Any, kind: str) -> None:
    one, other = make(kind, "One"), make(kind, "Other")
    sent = make.manifest(kind, "One", id=other.metadata.id)
    assert one.metadata.id in client.refused(f"{kind}/apply", sent, "ALREADY_EXISTS").message


@pytest.mark.rpc("execution_context/apply", "ALREADY_EXISTS")
def test_an_execution_context_is_applied_once(client: Any, make: Any) -> None:
    made = make("execution_context", "Once")
    error = client.refused("execution_context/apply", make.manifest("execution_context", "Once"), "ALREADY_EXISTS")
    assert made.metadata.id in error.message


@pytest.mark.parametrize("kind", each("apply", "NOT_FOUND", only=frozenset(PARENTS)))
def test_apply_needs_the_parent(client: Any, make: Any, kind: str) -> None:
    field, title, id = PARENTS[kind]
    error = client.refused(f"{kind}/apply", make.manifest(kind, "orphan", spec={field: id}), "NOT_FOUND")
    assert error.message == f"{title} not found: {id}"


# update


@pytest.mark.parametrize("kind", each("update"))
def test_update_replaces_spec_and_metadata(client: Any, make: Any, kind: str) -> None:
    made = make(kind, "Before", labels={"old": "1"})
    sent = client.plain(made)
    sent["metadata"] |= {"name": "After", "labels": {"new": "2"}, "slug": "elsewhere", "org": "elsewhere"}
    sent["status"] = {"audit": {"specAudit": {"event": "forged"}}}
    changed = client(f"{kind}/update", sent)
    assert (changed.metadata.id, changed.metadata.slug) == (made.metadata.id, "before")
    assert (changed.metadata.org, changed.metadata.name) == (client.org, "After")
    assert dict(changed.metadata.labels) == {"new": "2"}
    assert changed.status.audit.spec_audit.event == "updated"
    assert changed.status.audit.spec_audit.created_at == made.status.audit.spec_audit.created_at
    assert (changed.metadata.version.id, changed.metadata.version.previous_version_id) == ("2", "1")


@pytest.mark.parametrize("kind", each("update", but=UNNAMED))
def test_update_finds_by_slug(client: Any, make: Any, kind: str) -> None:
    made = make(kind, "By Slug")
    sent = client.plain(made)
    del sent["metadata"]["id"]
    assert client(f"{kind}/update", sent).metadata.id == made.metadata.id


@pytest.mark.parametrize("kind", each("update", "INVALID_ARGUMENT"))
def test_update_holds_to_the_contract(client: Any, make: Any, kind: str) -> None:
    assert client.refused(f"{kind}/update", None, "INVALID_ARGUMENT").fields["metadata"] == "required"
    sent = make.manifest(kind, "x")
    del sent["metadata"]["name"]
    assert list(client.refused(f"{kind}/update", sent, "INVALID_ARGUMENT").fields) == ["metadata"]


@pytest.mark.parametrize("kind", each("update", "NOT_FOUND"))
def test_update_of_nothing(client: Any, make: Any, kind: str) -> None:
    prefix = descriptors.kind_by_enum_name(kind).id_prefix
    error = client.refused(f"{kind}/update", make.manifest(kind, "x", id=f"{prefix}-nothing"), "NOT_FOUND")
    assert error.message.endswith(f" not found: {prefix}-nothing")
    assert client.refused(f"{kind}/update", make.manifest(kind, "nobody"), "NOT_FOUND").message.endswith("nobody")


@pytest.mark.parametrize("kind", each("update", "ABORTED"))
def test_an_update_of_an_old_version_is_lost(client: Any, make: Any, kind: str) -> None:
    made = make(kind, "Raced")
    sent = client.plain(made)
    client(f"{kind}/update", sent)
    assert "version 1" in client.refused(f"{kind}/update", sent, "ABORTED").message


# get and getByReference


@pytest.mark.parametrize("kind", each("get", but=frozenset({"skill"})))
def test_get_returns_what_was_made(client: Any, make: Any, kind: str) -> None:
    made = make(kind, "Kept")
    assert client(f"{kind}/get", {"value": made.metadata.id}) == made


@pytest.mark.parametrize("kind", each("get", "INVALID_ARGUMENT"))
def test_get_needs_an_id(client: Any, kind: str) -> None:
    assert client.refused(f"{kind}/get", None, "INVALID_ARGUMENT").fields == {"value": "required"}


@pytest.mark.parametrize("kind", each("get", "NOT_FOUND"))
def test_get_of_nothing(client: Any, make: Any, kind: str) -> None:
    title = descriptors.kind_by_enum_name(kind).name
    other = make("environment" if kind != "environment" else "agent", "Of Another Kind")
    for id in ("nothing", "nothing\0", "x" * 10_000, other.metadata.id):
        error = client.refused(f"{kind}/get", {"value": id}, "NOT_FOUND")
        assert error.message.startswith(f"{title} not found: ")


@pytest.mark.parametrize("kind", each("getByReference", but=frozenset({"skill"})))
def test_a_reference_finds_by_slug(client: Any, make: Any, kind: str) -> None:
    made = make(kind, f"Findable {client.org}")
    slug = made.metadata.slug
    assert client(f"{kind}/getByReference", {"slug": slug}) == made
    full = {"slug": slug, "org": client.org, "kind": kind, "version": "latest"}
    assert client(f"{kind}/getByReference", full) == made
    assert client(f"{kind}/getByReference", {**full, "version": "1"}) == made


@pytest.mark.parametrize("kind", each("getByReference", "INVALID_ARGUMENT"))
def test_a_reference_needs_a_slug_and_the_right_kind(client: Any, kind: str) -> None:
    error = client.refused(f"{kind}/getByReference", None, "INVALID_ARGUMENT")
    assert error.fields == {"slug": "reference.slug.required"}
    error = client.refused(f"{kind}/getByReference", {"slug": "x", "kind": "organization"}, "INVALID_ARGUMENT")
    assert error.fields == {"kind": "reference.kind.mismatch"}
    error = client.refused(f"{kind}/getByReference", {"slug": "x", "scope": 9}, "INVALID_ARGUMENT")
    assert error.fields == {"scope": "enum.defined_only"}
    error = client.refused(f"{kind}/getByReference", {"slug": "x", "version": "a/b"}, "INVALID_ARGUMENT")
    assert error.fields == {"version": "string.pattern"}


@pytest.mark.parametrize("kind", each("getByReference", "NOT_FOUND"))
def test_a_reference_to_nothing(client: Any, kind: str) -> None:
    error = client.refused(f"{kind}/getByReference", {"slug": "nobody", "org": client.org}, "NOT_FOUND")
    assert error.message.endswith(f" not found: {client.org}/nobody")


@pytest.mark.parametrize("kind", each("getByReference", "NOT_FOUND", but=frozenset({"skill"})))
def test_a_reference_to_no_version(client: Any, make: Any, kind: str) -> None:
    make(kind, "Versioned")
    for version in ("9", "beta", "0" * 64):
        reference = {"slug": "versioned", "org": client.org, "version": version}
        assert version in client.refused(f"{kind}/getByReference", reference, "NOT_FOUND").message


# delete


@pytest.mark.parametrize("kind", each("delete", but=frozenset({"skill"})))
def test_delete_returns_what_was_there(client: Any, make: Any, kind: str) -> None:
    made = make(kind, "Passing")
    assert client(f"{kind}/delete", client.named(f"{kind}/delete", made.metadata.id)) == made
    client.refused(f"{kind}/get", {"value": made.metadata.id}, "NOT_FOUND")


@pytest.mark.parametrize("kind", each("delete", "INVALID_ARGUMENT"))
def test_delete_needs_an_id(client: Any, kind: str) -> None:
    (field,) = client.named(f"{kind}/delete", "")
    assert client.refused(f"{kind}/delete", None, "INVALID_ARGUMENT").fields == {field: "required"}


@pytest.mark.parametrize("kind", each("delete", "NOT_FOUND"))
def test_delete_of_nothing(client: Any, kind: str) -> None:
    request = client.named(f"{kind}/delete", "nothing")
    assert client.refused(f"{kind}/delete", request, "NOT_FOUND").message.endswith(" not found: nothing")


CHILDREN = {
    "agent": ("agent_instance", "agentId"),
    "agent_instance": ("session", "agentInstanceId"),
    "session": ("agent_execution", "sessionId"),
    "workflow": ("workflow_instance", "workflowId"),
    "workflow_instance": ("workflow_execution", "workflowInstanceId"),
}


@pytest.mark.parametrize("kind", each("delete", "FAILED_PRECONDITION", only=frozenset(CHILDREN)))
def test_what_is_needed_is_deleted_only_by_force(client: Any, make: Any, kind: str) -> None:
    child, field = CHILDREN[kind]
    made = make(kind, "Needed")
    dependent = make(child, "Dependent", spec={field: made.metadata.id})
    request = client.named(f"{kind}/delete", made.metadata.id)
    assert dependent.metadata.id in client.refused(f"{kind}/delete", request, "FAILED_PRECONDITION").message
    assert client(f"{kind}/get", {"value": made.metadata.id}) == made
    client(f"{kind}/delete", request, metadata={"x-stigmer-force": "true"})
    client.refused(f"{child}/get", {"value": dependent.metadata.id}, "NOT_FOUND")


@pytest.mark.rpc("environment/delete", "FAILED_PRECONDITION")
@pytest.mark.rpc("environment/delete")
def test_an_environment_in_use_is_deleted_only_by_force(client: Any, make: Any) -> None:
    environment = make("environment", "prod")
    reference = {"kind": "environment", "slug": "prod", "org": client.org}
    instance = make("agent_instance", "User", spec={"environmentRefs": [reference]})
    request = {"resourceId": environment.metadata.id, "versionMessage": "no longer used"}
    assert instance.metadata.id in client.refused("environment/delete", request, "FAILED_PRECONDITION").message
    client("environment/delete", {**request, "force": True})
    assert client("agent_instance/get", {"value": instance.metadata.id}) == instance
