"""Dry runs: the same answers and the same errors as the real calls, and nothing kept of them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from stigmer_grpc import InvalidArgumentError, RpcError
from stigmer_protos import descriptors
from temporalio.client import Client

from stigmer_server.app import schemas
from stigmer_server.kinds import registry
from stigmer_server.messages import copied
from stigmer_server.testing import Api, TemporalServer, manifest, serve, settled

Make = Callable[..., Awaitable[Any]]
Specs = dict[str, Callable[[Api], Awaitable[dict[str, Any]]]]
DRY = {"x-stigmer-dry-run": "true"}
DATA = {"REGION": {"value": "eu-west-1"}, "TOKEN": {"value": "s3cret", "isSecret": True}}


def kinds_with(verb: str) -> list[str]:
    return [
        kind.name
        for kind in registry().values()
        for service in kind.described.services
        if verb in descriptors.pool().FindServiceByName(service).methods_by_name and kind.described.tier == "open"
    ]


def told(answer: Any) -> str:
    """What an answer says, but for ids that are made at random and for times."""
    text = json.dumps(MessageToDict(answer, descriptor_pool=descriptors.pool()), sort_keys=True)
    text = re.sub(r"\b[0-9a-hjkmnp-tv-z]{26}\b", "<ulid>", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", text)


async def kept(api: Api) -> tuple[int, set[str]]:
    """Where the feed of changes is, and every file of the server but the database itself."""
    sequence = await settled(api)
    files = {str(path) for path in api.app.settings.storage_path.rglob("*") if path.is_file()}
    return sequence, files


async def both(api: Api, kind: str, verb: str, request: Any, **metadata: str) -> Any:
    """Make a call dry and then for real, check that it comes to the same, and return the real answer."""
    before = await kept(api)
    dry = await _outcome(api, kind, verb, request, {**metadata, **DRY})
    assert await kept(api) == before
    real = await _outcome(api, kind, verb, request, metadata)
    if isinstance(real, RpcError):
        assert isinstance(dry, RpcError)
        assert (dry.code, dry.message, dry.details) == (real.code, real.message, real.details)
        return real
    assert told(dry) == told(real)
    return real


async def _outcome(api: Api, kind: str, verb: str, request: Any, metadata: dict[str, str]) -> Any:
    try:
        return await api(kind, verb, request, metadata=metadata)
    except RpcError as error:
        return error


def deletion(kind: str, id: str) -> dict[str, str]:
    return {"resourceId" if kind in ("environment", "execution_context", "mcp_server") else "value": id}


@pytest.mark.parametrize("kind", kinds_with("create"))
async def test_a_dry_creation(local: Api, specs: Specs, kind: str) -> None:
    sent = manifest(kind, "Tried", await specs[kind](local), labels={"a": "b"})
    assert (await both(local, kind, "create", sent)).metadata.slug == "tried"
    if registry()[kind].named:
        assert (await both(local, kind, "create", sent)).code.name == "ALREADY_EXISTS"


@pytest.mark.parametrize("kind", kinds_with("update"))
async def test_a_dry_update(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind, "Tried")
    sent = copied(made)
    sent.metadata.labels["new"] = "1"
    changed = await both(local, kind, "update", sent)
    assert changed.metadata.version.id == "2"
    assert (await both(local, kind, "update", sent)).code.name == "ABORTED"
    sent.metadata.id = f"{made.metadata.id[:-2]}zz"
    assert (await both(local, kind, "update", sent)).code.name == "NOT_FOUND"


@pytest.mark.parametrize("kind", kinds_with("apply"))
async def test_a_dry_application(local: Api, specs: Specs, kind: str) -> None:
    sent = manifest(kind, "Tried", await specs[kind](local))
    events = [(await both(local, kind, "apply", sent)).status.audit.spec_audit.event]
    if kind == "execution_context":
        assert (await both(local, kind, "apply", sent)).code.name == "ALREADY_EXISTS"
        return
    events.append((await both(local, kind, "apply", sent)).status.audit.spec_audit.event)
    sent["metadata"]["labels"] = {"new": "1"}
    events.append((await both(local, kind, "apply", sent)).status.audit.spec_audit.event)
    assert events == ["created", "unchanged", "updated"]


@pytest.mark.parametrize("kind", kinds_with("create"))
async def test_a_dry_deletion(local: Api, make: Make, kind: str) -> None:
    made = await make(local, kind, "Tried")
    assert await both(local, kind, "delete", deletion(kind, made.metadata.id)) == made
    assert (await both(local, kind, "delete", deletion(kind, made.metadata.id))).code.name == "NOT_FOUND"


async def test_a_dry_deletion_by_force(local: Api, make: Make) -> None:
    session = await make(local, "session", "talk")
    await make(local, "agent_execution", "turn", spec={"sessionId": session.metadata.id})
    request = deletion("session", session.metadata.id)
    refused = await both(local, "session", "delete", request)
    assert refused.code.name == "FAILED_PRECONDITION"
    assert await both(local, "session", "delete", request, **{"x-stigmer-force": "true"}) == session


@pytest.mark.parametrize("verb", ["create", "apply"])
async def test_a_dry_run_seals_and_redacts_like_a_real_one(local: Api, verb: str) -> None:
    sent = manifest("environment", "prod", {"data": DATA})
    made = await both(local, "environment", verb, sent)
    assert made.spec.data["TOKEN"].value == "***REDACTED***"


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"instructions": "short"}, "INVALID_ARGUMENT"),
        ({"instructions": "Answer every question.", "skillRefs": [{"kind": "agent", "slug": "x"}]}, "INVALID_ARGUMENT"),
    ],
)
async def test_a_dry_run_refuses_what_a_real_one_refuses(local: Api, spec: dict[str, Any], code: str) -> None:
    for verb in ("create", "apply", "update"):
        assert (await both(local, "agent", verb, manifest("agent", "Wrong", spec))).code.name == code


async def test_a_workflow_is_checked_dry(local: Api) -> None:
    for verb in ("create", "apply"):
        wrong = await both(local, "workflow", verb, manifest("workflow", "Wrong", {"definition": "do: 1"}))
        assert [violation.field for violation in wrong.violations][:1] == ["spec.definition"]


@pytest.mark.parametrize("verb", ["create", "apply", "update", "delete", "get"])
@pytest.mark.parametrize("value", ["TRUE", "1", "", "yes", "true, true"])
async def test_a_dry_run_is_asked_for_with_true_or_not_at_all(local: Api, make: Make, verb: str, value: str) -> None:
    made = await make(local, "agent", "Kept")
    request = {"value": made.metadata.id} if verb in ("delete", "get") else made
    with pytest.raises(InvalidArgumentError) as caught:
        await local("agent", verb, request, metadata={"x-stigmer-dry-run": value})
    assert [violation.field for violation in caught.value.violations] == ["x-stigmer-dry-run"]
    assert await local("agent", "get", {"value": made.metadata.id}) == made
    await local("agent", "delete", {"value": made.metadata.id}, metadata={"x-stigmer-dry-run": "false"})


async def test_a_dry_run_uses_up_no_idempotency_key(local: Api, make: Make) -> None:
    agent = await make(local, "agent")
    sent = manifest("agent_execution", "run", {"agentId": agent.metadata.id, "message": "Hello"})
    key = {"x-stigmer-idempotency-key": "one"}
    first = await both(local, "agent_execution", "create", sent, **key)
    assert await both(local, "agent_execution", "create", sent, **key) == first


async def test_everything_that_the_server_stores_is_seen_here(local: Api, make: Make) -> None:
    """A check of the check: a real call of each kind moves what `kept` looks at."""
    assert {schema.kind for schema in schemas(registry())} >= set(registry())
    for kind in kinds_with("create"):
        before = await kept(local)
        await make(local, kind)
        assert (await kept(local))[0] > before[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["agent_execution", "workflow_execution"])
async def test_a_dry_run_starts_nothing(tmp_path: Path, temporal: TemporalServer, make: Make, kind: str) -> None:
    client = await Client.connect(temporal.address)
    async with serve(tmp_path, engine=True, temporal_address=temporal.address) as api:
        parent = await make(api, kind.removesuffix("_execution"))
        sent = manifest(kind, "run", {f"{kind.removesuffix('_execution')}Id": parent.metadata.id})
        sent["spec"] |= {"message": "Hello"} if kind == "agent_execution" else {}
        dry = await api(kind, "create", sent, metadata=DRY)
        real = await api(kind, "create", sent)
        await _started(client, real.metadata.id)
        await api(kind, "delete", {"value": real.metadata.id}, metadata=DRY)
        other = await api(kind, "create", {**sent, "metadata": {**sent["metadata"], "name": "other"}})
        await _started(client, other.metadata.id)
        known = {run.id.rpartition("/")[2] async for run in client.list_workflows("ExecutionStatus = 'Running'")}
    assert dry.metadata.id not in known
    assert {real.metadata.id, other.metadata.id} <= known


async def _started(client: Client, id: str) -> None:
    """Wait until Temporal lists the run of an execution."""
    async with asyncio.timeout(30):
        while not [run async for run in client.list_workflows() if run.id.endswith(id)]:  # noqa: ASYNC110 - Temporal tells nobody
            await asyncio.sleep(0.05)
