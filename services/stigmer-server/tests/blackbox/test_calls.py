"""What a call says in its metadata: dry runs, idempotency keys and force."""

from __future__ import annotations

from typing import Any

import pytest
from stigmer_protos import descriptors

DRY = {"x-stigmer-dry-run": "true"}
OPEN = [kind for kind in descriptors.KINDS if kind.tier == "open"]


def each(*methods: str) -> list[str]:
    """Return the RPCs of the open kinds with these names."""
    return [
        f"{kind.enum_name}/{method.name}"
        for kind in OPEN
        for service in kind.services
        for method in descriptors.pool().FindServiceByName(service).methods
        if method.name in methods
    ]


@pytest.mark.parametrize("name", each("create", "apply"))
def test_a_dry_run_makes_nothing(client: Any, make: Any, name: str) -> None:
    kind = name.partition("/")[0]
    made = client(name, make.manifest(kind, "Tried"), metadata=DRY)
    assert made.status.audit.spec_audit.event == "created"
    client.refused(f"{kind}/get", {"value": made.metadata.id}, "NOT_FOUND")


@pytest.mark.parametrize("name", each("update"))
def test_a_dry_run_changes_nothing(client: Any, make: Any, name: str) -> None:
    kind = name.partition("/")[0]
    made = make(kind, "Kept")
    sent = client.plain(made)
    sent["metadata"]["labels"] = {"new": "1"}
    assert client(name, sent, metadata=DRY).metadata.version.id == "2"
    assert client(f"{kind}/get", {"value": made.metadata.id}) == made


@pytest.mark.parametrize("name", [name for name in each("delete") if name != "skill/delete"])
def test_a_dry_run_deletes_nothing(client: Any, make: Any, name: str) -> None:
    kind = name.partition("/")[0]
    made = make(kind, "Kept")
    assert client(name, client.named(name, made.metadata.id), metadata=DRY) == made
    assert client(f"{kind}/get", {"value": made.metadata.id}) == made


@pytest.mark.parametrize("name", each("create", "apply", "update", "delete", "get", "push"))
def test_a_dry_run_is_true_or_false(client: Any, make: Any, name: str) -> None:
    kind, _, method = name.partition("/")
    request: Any = client.named(name, "x") if method in ("delete", "get") else None
    if request is None and method != "push":
        request = make.manifest(kind)
    if method == "push":
        request = client.message(name, {"name": "x", "scope": "organization"})
        request.artifact = b"x"
    error = client.refused(name, request, "INVALID_ARGUMENT", metadata={"x-stigmer-dry-run": "yes"})
    assert error.fields == {"x-stigmer-dry-run": "metadata.switch"}


@pytest.mark.parametrize("name", each("create"))
def test_a_key_makes_one_thing(client: Any, make: Any, name: str) -> None:
    kind = name.partition("/")[0]
    key = {"x-stigmer-idempotency-key": f"{client.org} {kind}"}
    sent = make.manifest(kind, "Once")
    waiting = [client.begin(name, sent, metadata=key) for _ in range(100)]
    made = {result().SerializeToString(deterministic=True) for result in waiting}
    assert len(made) == 1
    sent["metadata"]["name"] = "Another"
    assert client.org in client.refused(name, sent, "FAILED_PRECONDITION", metadata=key).message


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_a_key_is_short_text(client: Any, make: Any, key: str) -> None:
    metadata = {"x-stigmer-idempotency-key": key}
    error = client.refused("agent/create", make.manifest("agent"), "INVALID_ARGUMENT", metadata=metadata)
    assert error.fields == {"x-stigmer-idempotency-key": "metadata.idempotency_key"}


@pytest.mark.parametrize("name", each("delete"))
def test_force_is_true_or_false(client: Any, name: str) -> None:
    request = client.named(name, "x")
    error = client.refused(name, request, "INVALID_ARGUMENT", metadata={"x-stigmer-force": "1"})
    assert error.fields == {"x-stigmer-force": "metadata.switch"}
