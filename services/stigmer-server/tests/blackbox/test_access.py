"""Organizations, API keys, and who one is."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

FORCED = {"x-stigmer-force": "true"}


def organization(slug: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": slug, "slug": slug}
    return {"apiVersion": "tenancy.stigmer.ai/v1", "kind": "Organization", "metadata": metadata, "spec": spec}


def key(name: str, org: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "org": org}
    return {"apiVersion": "iam.stigmer.ai/v1", "kind": "ApiKey", "metadata": metadata, "spec": spec}


@pytest.mark.rpc("organization/create")
@pytest.mark.rpc("organization/create", "INVALID_ARGUMENT")
@pytest.mark.rpc("organization/create", "ALREADY_EXISTS")
@pytest.mark.rpc("organization/apply")
@pytest.mark.rpc("organization/apply", "INVALID_ARGUMENT")
@pytest.mark.rpc("organization/get")
@pytest.mark.rpc("organization/get", "INVALID_ARGUMENT")
@pytest.mark.rpc("organization/get", "NOT_FOUND")
def test_an_organization_is_made(client: Any) -> None:
    made = client("organization/create", organization(client.org))
    assert made.metadata.org == made.metadata.slug == client.org
    assert client("organization/get", {"value": made.metadata.id}) == made
    assert client.refused("organization/create", organization(client.org), "ALREADY_EXISTS")
    applied = client("organization/apply", organization(client.org, description="Anvils"))
    assert (applied.metadata.id, applied.spec.description) == (made.metadata.id, "Anvils")
    for verb in ("create", "apply"):
        wrong = client.refused(f"organization/{verb}", organization("Not A Slug"), "INVALID_ARGUMENT")
        assert set(wrong.fields) == {"metadata"}
    assert client.refused("organization/get", None, "INVALID_ARGUMENT").fields
    client.refused("organization/get", {"value": "org-none"}, "NOT_FOUND")


@pytest.mark.rpc("organization/update")
@pytest.mark.rpc("organization/update", "INVALID_ARGUMENT")
@pytest.mark.rpc("organization/update", "NOT_FOUND")
@pytest.mark.rpc("organization/update", "ABORTED")
def test_an_organization_is_changed(client: Any) -> None:
    made = client("organization/create", organization(client.org))
    sent = client.plain(made)
    changed = client("organization/update", {**sent, "spec": {"description": "Anvils"}})
    assert changed.metadata.version.id == "2"
    client.refused("organization/update", sent, "ABORTED")
    client.refused("organization/update", {**sent, "metadata": {"id": "org-none"}}, "NOT_FOUND")
    assert client.refused("organization/update", None, "INVALID_ARGUMENT").fields


@pytest.mark.rpc("organization/find")
@pytest.mark.rpc("organization/find", "INVALID_ARGUMENT")
@pytest.mark.rpc("organization/findMyOrganizations")
def test_organizations_are_found(client: Any) -> None:
    made = client("organization/create", organization(client.org))
    assert list(client("organization/find", {"org": client.org}).entries) == [made]
    assert client.refused("organization/find", None, "INVALID_ARGUMENT").fields == {"org": "required"}
    slugs = {entry.metadata.slug for entry in client("organization/findMyOrganizations").entries}
    assert {"local", client.org} <= slugs


@pytest.mark.rpc("organization/delete")
@pytest.mark.rpc("organization/delete", "INVALID_ARGUMENT")
@pytest.mark.rpc("organization/delete", "NOT_FOUND")
@pytest.mark.rpc("organization/delete", "FAILED_PRECONDITION")
def test_an_organization_goes_with_what_it_has(client: Any, make: Any) -> None:
    made = client("organization/create", organization(client.org))
    agent = make("agent")
    request = {"value": made.metadata.id}
    assert agent.metadata.id in client.refused("organization/delete", request, "FAILED_PRECONDITION").message
    assert client("organization/delete", request, metadata=FORCED) == made
    client.refused("organization/delete", request, "NOT_FOUND")
    client.refused("agent/get", {"value": agent.metadata.id}, "NOT_FOUND")
    assert client.refused("organization/delete", None, "INVALID_ARGUMENT").fields


@pytest.mark.rpc("api_key/create")
@pytest.mark.rpc("api_key/create", "INVALID_ARGUMENT")
@pytest.mark.rpc("api_key/create", "ALREADY_EXISTS")
@pytest.mark.rpc("api_key/get")
@pytest.mark.rpc("api_key/get", "INVALID_ARGUMENT")
@pytest.mark.rpc("api_key/get", "NOT_FOUND")
@pytest.mark.rpc("api_key/getByKeyHash")
@pytest.mark.rpc("api_key/getByKeyHash", "INVALID_ARGUMENT")
@pytest.mark.rpc("api_key/getByKeyHash", "NOT_FOUND")
@pytest.mark.rpc("api_key/findAll")
def test_a_key_is_made_and_found(client: Any) -> None:
    made = client("api_key/create", key("ci", client.org, neverExpires=True))
    stored = client("api_key/get", {"value": made.metadata.id})
    digest = hashlib.sha256(made.spec.key_hash.encode()).hexdigest()
    assert stored.spec.key_hash == digest
    assert client("api_key/getByKeyHash", {"value": digest}) == stored
    assert stored in list(client("api_key/findAll").entries)
    client.refused("api_key/create", key("ci", client.org, neverExpires=True), "ALREADY_EXISTS")
    wrong = client.refused("api_key/create", key("other", client.org), "INVALID_ARGUMENT")
    assert wrong.fields == {"spec.expires_at": "api_key.end.required"}
    for verb in ("get", "getByKeyHash"):
        assert client.refused(f"api_key/{verb}", None, "INVALID_ARGUMENT").fields == {"value": "required"}
        client.refused(f"api_key/{verb}", {"value": "none"}, "NOT_FOUND")


@pytest.mark.rpc("api_key/update")
@pytest.mark.rpc("api_key/update", "INVALID_ARGUMENT")
@pytest.mark.rpc("api_key/update", "NOT_FOUND")
@pytest.mark.rpc("api_key/update", "ABORTED")
@pytest.mark.rpc("api_key/delete")
@pytest.mark.rpc("api_key/delete", "INVALID_ARGUMENT")
@pytest.mark.rpc("api_key/delete", "NOT_FOUND")
def test_a_key_is_changed_and_revoked(client: Any) -> None:
    made = client("api_key/create", key("ci", client.org, neverExpires=True))
    sent = client.plain(made)
    sent["spec"]["role"] = "API_KEY_ROLE_VIEWER"
    changed = client("api_key/update", sent)
    assert (changed.spec.role, changed.metadata.version.id) == (1, "2")
    client.refused("api_key/update", sent, "ABORTED")
    client.refused("api_key/update", {**sent, "metadata": {"id": "key-none"}}, "NOT_FOUND")
    assert client.refused("api_key/update", None, "INVALID_ARGUMENT").fields
    assert client("api_key/delete", {"value": made.metadata.id}) == changed
    client.refused("api_key/delete", {"value": made.metadata.id}, "NOT_FOUND")
    assert client.refused("api_key/delete", None, "INVALID_ARGUMENT").fields == {"value": "required"}


@pytest.mark.rpc("identity_account/whoAmI")
@pytest.mark.rpc("identity_account/getActorInfo")
@pytest.mark.rpc("identity_account/getActorInfo", "INVALID_ARGUMENT")
@pytest.mark.rpc("identity_account/getActorInfo", "NOT_FOUND")
def test_where_nobody_signs_in_everybody_is_the_system(client: Any) -> None:
    account = client("identity_account/whoAmI")
    assert account.metadata.id == "system"
    assert client("identity_account/getActorInfo", {"value": "system"}).id == "system"
    client.refused("identity_account/getActorInfo", {"value": "key-none"}, "NOT_FOUND")
    assert client.refused("identity_account/getActorInfo", None, "INVALID_ARGUMENT").fields == {"value": "required"}
