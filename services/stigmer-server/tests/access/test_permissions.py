"""Who may call what: one table, held against the rules and against real calls of every role."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from stigmer_grpc import PermissionDeniedError, RpcError, UnauthenticatedError
from stigmer_protos import descriptors

from stigmer_server.access.roles import PERMISSIONS, Role
from stigmer_server.access.rules import name_of, rule_of
from stigmer_server.access.testing import House, org_manifest

LETTERS = {"V": "viewer", "E": "editor", "O": "owner", "R": "runner", "P": "operator"}


def table() -> dict[str, set[str]]:
    """Return who may call each method, as people wrote it down."""
    lines = (Path(__file__).parent / "permissions.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {name: {LETTERS[letter] for letter in letters if letter != "-"} for name, *letters in rows}


METHODS = {name_of(method): method for service in descriptors.services() for method in service.methods}


def test_every_method_has_a_line_and_every_line_a_method() -> None:
    assert set(table()) == set(METHODS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_rules_say_what_the_table_says(name: str) -> None:
    assert {role.value for role in rule_of(METHODS[name]).roles()} == table().get(name)


def test_the_operator_may_do_everything() -> None:
    assert all("operator" in roles for roles in table().values())
    assert all(Role.OPERATOR in roles for roles in PERMISSIONS.values())


def test_a_method_of_which_nothing_is_said_is_the_operators_alone() -> None:
    """Such as one of a service that the rules have never heard of."""
    assert health_pb2.DESCRIPTOR is not None
    method = descriptor_pool.Default().FindServiceByName("grpc.health.v1.Health").methods_by_name["Check"]
    assert rule_of(method).roles() == {Role.OPERATOR}


def test_no_declared_permission_is_unknown() -> None:
    asked = {found.permission for method in METHODS.values() if (found := descriptors.method_authorization(method))}
    assert asked <= {permission for permission, _ in PERMISSIONS}


async def called(house: House, role: str, method: Any) -> str:
    """Call a method with nothing, and return the status; nothing is enough to be refused."""
    api = await house.as_(role)
    stub = api.channel.service(method.containing_service.full_name)
    try:
        async with asyncio.timeout(10):
            if method.client_streaming:
                await stub.client_stream(method.name, [])
            elif method.server_streaming:
                async for _ in stub.stream(method.name, {}):
                    break
            else:
                await stub.unary(method.name, {})
    except RpcError as error:
        return error.code.name
    return "OK"


@pytest.mark.parametrize("role", sorted(LETTERS.values()))
async def test_real_calls_are_refused_as_the_table_says(house: House, role: str) -> None:
    served = {service.name for service in house.api.app._services}
    assert len(served) > 25
    wrong: list[str] = []
    for name, method in METHODS.items():
        if method.containing_service.full_name not in served:
            continue
        code = await called(house, role, method)
        assert code != "UNAUTHENTICATED", name
        if (code == "PERMISSION_DENIED") == (role in table()[name]):
            wrong.append(f"{name}: {code}")
    assert wrong == []


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        ("agent", {"viewer", "editor", "owner", "runner", "operator"}),
        ("api_key", {"owner", "operator"}),
        ("execution_context", {"operator"}),
        ("organization", {"viewer", "editor", "owner", "runner", "operator"}),
    ],
)
async def test_what_the_request_names_decides_too(house: House, kind: str, allowed: set[str]) -> None:
    for role in LETTERS.values():
        api = await house.as_(role)
        watching = {"kinds": [kind], "snapshot": True}
        stub = api.channel.service("ai.stigmer.resources.v1.ResourceController")
        if role in allowed:
            await api.list_all({"kind": kind})
            async for _ in stub.stream("watch", watching):
                break
        else:
            with pytest.raises(PermissionDeniedError):
                await api.list_all({"kind": kind})
            with pytest.raises(PermissionDeniedError):
                await anext(stub.stream("watch", watching))


async def test_a_refusal_says_who_one_is_and_who_may(house: House) -> None:
    viewer = await house.as_("viewer")
    with pytest.raises(
        PermissionDeniedError, match=r"^key-\w+ is a viewer and may not delete workflow resources"
    ) as told:
        await viewer("workflow", "delete", {"value": "wfl-1"})
    assert told.value.message.endswith("editor or operator or owner")
    editor = await house.as_("editor")
    for call, said in (
        (editor.list_all({"kind": "api_key"}), "an editor and may not view api key resources here; that is for: op"),
        (editor("organization", "create", org_manifest("new")), "an editor and may not do this here; that is for: op"),
    ):
        with pytest.raises(PermissionDeniedError, match=said):
            await call


async def test_nobody_learns_from_a_refusal_what_there_is(house: House) -> None:
    viewer = await house.as_("viewer")
    agents = [
        await house.api("agent", "create", agent("mine", "acme")),
        await house.api("agent", "create", agent("theirs", "other")),
    ]
    told: set[str] = set()
    for id in (*(made.metadata.id for made in agents), "agt-none"):
        with pytest.raises(PermissionDeniedError) as caught:
            await viewer("agent", "delete", {"value": id})
        told.add(caught.value.message)
    assert len(told) == 1


def agent(name: str, org: str) -> dict[str, Any]:
    return {
        "apiVersion": "agentic.stigmer.ai/v1",
        "kind": "Agent",
        "metadata": {"name": name, "org": org, "ownerScope": "organization"},
        "spec": {"instructions": "Answer every question in one sentence."},
    }


async def test_without_a_token_there_is_no_role(house: House) -> None:
    async with house.api.app.channel(trusted=False) as channel:
        with pytest.raises(UnauthenticatedError):
            await channel.service("ai.stigmer.operations.v1.ServerController").unary("getStatus", {})
