"""Idempotency keys: however often a creation is asked for, one thing is made, and everybody gets it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError
from stigmer_protos import descriptors

from stigmer_server import idempotency
from stigmer_server.calls import Call, Caller
from stigmer_server.commands.create import create
from stigmer_server.kinds import registry
from stigmer_server.testing import Api, manifest, serve

Make = Callable[..., Awaitable[Any]]
Specs = dict[str, Callable[[Api], Awaitable[dict[str, Any]]]]
KEY = {"x-stigmer-idempotency-key": "order 4711/retry"}
SECRET = "correct horse battery staple"
AGENT = {"instructions": "Answer every question in one sentence."}
CREATED = [
    kind.name
    for kind in registry().values()
    for service in kind.described.services
    if "create" in descriptors.pool().FindServiceByName(service).methods_by_name and kind.described.tier == "open"
]


async def keys(api: Api) -> int:
    """How many keys are remembered."""
    from stigmer_sqlite import Query

    page = await api.app.resources.store.list(Query(kind=idempotency.SCHEMA.kind, count=True))
    return page.total or 0


@pytest.mark.parametrize("kind", CREATED)
async def test_a_repeated_creation_returns_what_the_first_made(local: Api, specs: Specs, kind: str) -> None:
    sent = manifest(kind, "Once", await specs[kind](local))
    first = await local(kind, "create", sent, metadata=KEY)
    sequence = await local.app.resources.store.last_sequence()
    assert await local(kind, "create", sent, metadata=KEY) == first
    assert await local.app.resources.store.last_sequence() == sequence
    with pytest.raises(FailedPreconditionError, match=first.metadata.id):
        await local(kind, "create", {**sent, "metadata": {**sent["metadata"], "name": "Other"}}, metadata=KEY)
    assert await local.app.resources.store.last_sequence() == sequence


@pytest.mark.parametrize("kind", ["agent", "agent_execution", "workflow_execution"])
async def test_a_hundred_at_once_make_one(api: Api, specs: Specs, kind: str) -> None:
    sent = manifest(kind, "Once", await specs[kind](api))
    made = await asyncio.gather(*(api(kind, "create", sent, metadata=KEY) for _ in range(100)))
    assert {answer.SerializeToString(deterministic=True) for answer in made} == {
        made[0].SerializeToString(deterministic=True)
    }
    listed = await api.list_all({"kind": kind, "text": "Once"})
    assert listed.total_count == 1


async def test_each_caller_gets_as_much_of_it_as_it_asks_for(local: Api, specs: Specs) -> None:
    sent = manifest("workflow_execution", "Once", await specs["workflow_execution"](local))
    minimal = {**KEY, "x-stigmer-return": "minimal"}
    first = await local("workflow_execution", "create", sent, metadata=minimal)
    assert not first.HasField("spec")
    whole = await local("workflow_execution", "create", sent, metadata=KEY)
    assert whole == await local("workflow_execution", "get", {"value": first.metadata.id})
    assert await local("workflow_execution", "create", sent, metadata=minimal) == first


async def test_a_key_is_known_after_a_restart(tmp_path: Path) -> None:
    sent = manifest("agent", "Once", AGENT)
    async with serve(tmp_path) as api:
        first = await api("agent", "create", sent, metadata=KEY)
    async with serve(tmp_path) as api:
        assert await api("agent", "create", sent, metadata=KEY) == first


async def test_a_key_stands_for_what_was_made_whatever_became_of_it(local: Api) -> None:
    sent = manifest("agent", "Once", AGENT)
    first = await local("agent", "create", sent, metadata=KEY)
    await local("agent", "delete", {"value": first.metadata.id})
    assert await local("agent", "create", sent, metadata=KEY) == first


async def test_a_key_belongs_to_one_kind(local: Api, specs: Specs) -> None:
    for kind in ("agent", "environment"):
        await local(kind, "create", manifest(kind, "Once", await specs[kind](local)), metadata=KEY)
    assert await keys(local) == 2


async def test_a_key_belongs_to_one_organization(local: Api) -> None:
    kind, made = registry()["agent"], set[str]()
    for org in (None, "acme", "local"):
        call = Call(caller=Caller(id="somebody", org=org), idempotency_key="same")
        request = _message(manifest("agent", "Once", AGENT, org=org or "platform"))
        answers = [await create(local.app.resources.on_behalf_of(call), kind, request) for _ in range(2)]
        assert answers[0] == answers[1]
        made.add(kind.parse(answers[0]).metadata.id)
    assert len(made) == 3


def _message(content: dict[str, Any]) -> Any:
    from google.protobuf.json_format import ParseDict

    return ParseDict(content, registry()["agent"].type(), descriptor_pool=descriptors.pool())


async def test_a_creation_that_fails_leaves_its_key_free(local: Api) -> None:
    with pytest.raises(InvalidArgumentError):
        await local("agent", "create", manifest("agent", "Once", {"instructions": "short"}), metadata=KEY)
    taken = await local("agent", "create", manifest("agent", "Taken", AGENT))
    with pytest.raises(AlreadyExistsError):
        await local("agent", "create", manifest("agent", "Taken", AGENT), metadata=KEY)
    await local("agent", "delete", {"value": taken.metadata.id})
    assert (await local("agent", "create", manifest("agent", "Once", AGENT), metadata=KEY)).metadata.slug == "once"


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_a_key_that_cannot_be_is_refused(api: Api, key: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await api("agent", "create", manifest("agent", "A", AGENT), metadata={"x-stigmer-idempotency-key": key})
    assert [violation.field for violation in caught.value.violations] == ["x-stigmer-idempotency-key"]


async def test_the_longest_key_is_taken(local: Api) -> None:
    metadata = {"x-stigmer-idempotency-key": "x" * 256}
    sent = manifest("agent", "A", AGENT)
    assert await local("agent", "create", sent, metadata=metadata) == await local(
        "agent", "create", sent, metadata=metadata
    )


async def test_a_key_is_forgotten_after_a_day(local: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = manifest("agent", "Once", AGENT)
    first = await local("agent", "create", sent, metadata=KEY)
    monkeypatch.setattr(idempotency, "REMEMBERED_SECONDS", 0)
    with pytest.raises(AlreadyExistsError):
        await local("agent", "create", sent, metadata=KEY)
    await local("agent", "delete", {"value": first.metadata.id})
    again = await local("agent", "create", sent, metadata=KEY)
    assert again.metadata.id != first.metadata.id
    monkeypatch.undo()
    assert await local("agent", "create", sent, metadata=KEY) == again


async def test_old_keys_are_swept_and_young_ones_stay(local: Api) -> None:
    for number in range(230):
        key = {"x-stigmer-idempotency-key": f"key {number}"}
        await local("execution_context", "create", _context(number), metadata=key)
    store = local.app.resources.store
    day = idempotency.REMEMBERED_SECONDS
    assert await idempotency.sweep(store, now=time.time() + day - 60) == 0
    assert await keys(local) == 230
    assert await idempotency.sweep(store, now=time.time() + day + 60) == 230
    assert await keys(local) == 0


def _context(number: int) -> dict[str, Any]:
    return manifest("execution_context", f"context {number}", {"executionId": "wex-1"})


async def test_a_running_server_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(tmp_path) as api:
        await api("agent", "create", manifest("agent", "Once", AGENT), metadata=KEY)
        assert await keys(api) == 1
    monkeypatch.setattr(idempotency, "REMEMBERED_SECONDS", -1)
    async with serve(tmp_path) as api, asyncio.timeout(10):
        while await keys(api):  # noqa: ASYNC110 - nobody tells when a key is forgotten
            await asyncio.sleep(0.01)


async def test_a_remembered_creation_holds_no_secret(tmp_path: Path) -> None:
    sent = manifest("environment", "prod", {"data": {"TOKEN": {"value": SECRET, "isSecret": True}}})
    async with serve(tmp_path) as api:
        first = await api("environment", "create", sent, metadata=KEY)
        assert first.spec.data["TOKEN"].value == "***REDACTED***"
        assert await api("environment", "create", sent, metadata=KEY) == first
    with sqlite3.connect(tmp_path / "stigmer.db") as database:
        rows = database.execute("SELECT data, wire FROM resources WHERE kind = ?", (idempotency.SCHEMA.kind,))
        ((data, wire),) = rows.fetchall()
    database.close()
    assert SECRET not in data
    assert b"enc:v1:" not in wire
    assert SECRET.encode() not in wire
    assert "enc:v1:" in data
