"""Canaries: a secret in every place where one can be, and nowhere else afterwards.

A real server with a real Temporal is driven through every RPC, over gRPC and over HTTP, with what is right and what is
wrong; then everything that it has said and everything that it has left on the disk is searched.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google.protobuf.message_factory import GetMessageClass
from stigmer_grpc import RpcError
from stigmer_protos import descriptors

from stigmer_server.command_line import parse
from stigmer_server.testing import Api, ServerProcess, TemporalServer, free_port, manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PLACES = (
    "environment",
    "execution_context",
    "agent",
    "workflow",
    "mcp_server",
    "agent_execution",
    "workflow_execution",
    "callback",
    "refused",
)
CANARIES = {place: f"canary-{place.replace('_', '')}-7f3a91d2c4" for place in PLACES}
_GIVEN = frozenset({"getEnvironment"})
"""The RPCs that give secrets to whoever may have them."""
_SECONDS = 0.5
DEFINITION = "document: {dsl: 1.0.0, namespace: tests, name: flow, version: 0.1.0}\ndo:\n  - greet: {set: {a: b}}\n"


def secret(place: str) -> dict[str, Any]:
    return {"value": CANARIES[place], "isSecret": True}


def spellings(canary: str) -> Iterator[bytes]:
    """Yield the ways in which a text may stand in a file: as it is, and in base64 at any offset."""
    raw = canary.encode()
    yield raw
    for offset in range(3):
        # Without the ends, whose bits are shared with what is beside them.
        yield base64.b64encode(b"\0" * offset + raw)[4:-4]


def found_in(content: bytes) -> list[str]:
    return [place for place, canary in CANARIES.items() if any(spelling in content for spelling in spellings(canary))]


async def fill(api: Api) -> dict[str, Any]:
    """Put a canary into every place, and return the resources by kind."""
    data: dict[str, Any] = {place: {"data": {"TOKEN": secret(place), "OPEN": {"value": "open"}}} for place in PLACES}
    made: dict[str, Any] = {}

    async def create(kind: str, spec: Any) -> str:
        sent = manifest(kind, f"Canary {kind}", spec)
        made[kind] = await api(kind, "create", sent, metadata={"x-stigmer-idempotency-key": f"key-{kind}"})
        return made[kind].metadata.id

    await create("environment", data["environment"])
    await create("execution_context", {"executionId": "wex-1", **data["execution_context"]})
    await create("mcp_server", {"stdio": {"command": "serve-tools"}, "envSpec": data["mcp_server"]})
    agent = await create("agent", {"instructions": "Answer in one sentence.", "envSpec": data["agent"]})
    workflow = await create("workflow", {"definition": DEFINITION, "envSpec": data["workflow"]})
    references = [{"kind": "environment", "slug": "canary-environment", "org": "local"}]
    instance = await create("agent_instance", {"agentId": agent, "environmentRefs": references})
    await create("workflow_instance", {"workflowId": workflow, "envRefs": references})
    session = await create("session", {"agentInstanceId": instance, "subject": "A talk"})
    token = base64.b64encode(CANARIES["callback"].encode()).decode()
    run = {"runtimeEnv": data["agent_execution"]["data"], "callbackToken": token}
    await create("agent_execution", {"sessionId": session, "message": "go", **run})
    run = {"runtimeEnv": data["workflow_execution"]["data"], "callbackToken": token}
    await create("workflow_execution", {"workflowInstanceId": made["workflow_instance"].metadata.id, **run})
    return made


class Said:
    """Everything that a server has said to its callers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.parts: list[bytes] = []
        self.answered: set[str] = set()
        self.refused: set[str] = set()

    async def call(self, method: Any, request: Any) -> None:
        """Call a method and keep what it says, in success and in failure."""
        stub = self._api.channel.service(method.containing_service.full_name)
        trailers: dict[str, Any] = {}
        name = method.name
        try:
            async with asyncio.timeout(20):
                if method.server_streaming:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_SECONDS):
                            async for answer in stub.stream(name, request, trailers=trailers):
                                self.keep(answer)
                else:
                    self.keep(await stub.unary(name, request, trailers=trailers))
            self.answered.add(method.full_name)
        except RpcError as error:
            self.refused.add(method.full_name)
            self.parts.append(f"{error.message} {error.details} {error.metadata}".encode())
        self.parts.append(str(trailers).encode())

    def keep(self, answer: Any) -> None:
        self.parts += [answer.SerializeToString(), str(answer).encode()]


def requests_of(method: Any, made: dict[str, Any]) -> Iterator[Any]:
    """Yield requests for a method: empty, and about each of the resources by whatever its fields call them."""
    message = GetMessageClass(method.input_type)
    yield message()
    for kind, resource in made.items():
        if method.input_type.full_name == resource.DESCRIPTOR.full_name:
            yield resource
        request = message()
        for field in method.input_type.fields:
            if not field.is_repeated and field.type == field.TYPE_STRING:
                values = {"slug": resource.metadata.slug, "org": "local", "page_token": "", "resume_token": ""}
                setattr(request, field.name, values.get(field.name, resource.metadata.id))
            elif field.enum_type is not None and field.name == "kind" and not field.is_repeated:
                setattr(request, field.name, descriptors.kind_by_enum_name(kind).number)
        yield request


_LAST = ("delete", "cancel", "terminate", "cleanup")


def methods() -> list[Any]:
    """Return every method that takes one request; those that end things come last."""
    found = [method for service in descriptors.services() for method in service.methods if not method.client_streaming]
    return sorted(found, key=lambda method: method.name.startswith(_LAST))


async def refusals(api: Api, said: Said, made: dict[str, Any]) -> None:
    """Send secrets in requests that are refused."""
    bad = {"data": {"TOKEN": secret("refused"), "": secret("refused")}}
    for kind in ("environment", "agent", "workflow", "agent_execution", "workflow_execution"):
        for service in descriptors.kind_by_enum_name(kind).services:
            for method in descriptors.pool().FindServiceByName(service).methods:
                if method.name not in ("create", "apply", "update"):
                    continue
                spec = bad if kind == "environment" else {"envSpec": bad}
                if kind.endswith("execution"):
                    spec = {"runtimeEnv": bad["data"], **({"message": "go"} if kind.startswith("agent") else {})}
                for changes in ({"org": ""}, {"slug": "NO SLUG"}, {"id": "nothing"}):
                    await said.call(method, manifest(kind, f"Refused {kind}", spec, **changes))
    stale = made["environment"]
    stale.spec.data["TOKEN"].value = CANARIES["refused"]
    stale.metadata.version.id = "77"
    await said.call(_method("environment", "update"), stale)


def _method(kind: str, name: str) -> Any:
    for service in descriptors.kind_by_enum_name(kind).services:
        found = descriptors.pool().FindServiceByName(service).methods_by_name
        if name in found:
            return found[name]
    raise LookupError(name)


async def over_http(address: str, said: Said) -> None:
    async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
        for kind in ("environments", "agents", "workflows", "mcp-servers", "agent-executions", "workflow-executions"):
            for path in (f"/v1/{kind}", f"/v1/{kind}/local/canary-{kind[:-1]}", f"/v1/{kind}/nothing"):
                said.parts.append((await client.get(path)).content)
            for body in (f'{{"spec": "{CANARIES["refused"]}"', f'{{"spec": {{"data": ["{CANARIES["refused"]}"]}}}}'):
                answer = await client.post(f"/v1/{kind}", content=body, headers={"content-type": "application/json"})
                assert answer.status_code >= 400
                # What is wrong may be quoted to the one who sent it, and to nobody else.
        for path in ("/metrics", "/readyz", "/healthz"):
            said.parts.append((await client.get(path)).content)


async def test_a_secret_is_nowhere_but_where_it_was_put(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    temporal = TemporalServer(tmp_path)
    await asyncio.to_thread(temporal.start)
    http = free_port()
    variables: Any = {"TEMPORAL_HOST_PORT": temporal.address, "LOG_LEVEL": "trace", "ENV": "production"}
    server = ServerProcess(home, "--http-port", str(http), **variables)
    try:
        api = await server.ready()
        made = await fill(api)
        said = Said(api)
        for resource in made.values():
            said.keep(resource)
        # They are there to be found: all but those that were refused open with the key.
        assert await asyncio.to_thread(_opened, home) >= set(PLACES) - {"callback", "refused"}
        copy = await asyncio.to_thread(_backed_up, home, tmp_path / "copy")
        await refusals(api, said, made)
        for method in methods():
            if method.name not in _GIVEN:
                for request in requests_of(method, made):
                    await said.call(method, request)
        await over_http(f"127.0.0.1:{http}", said)
        assert len(said.answered) > 40
        assert len(said.refused) > 40
        # Killed and not stopped: the log beside the database and whatever is half done stay as they are.
        await server.kill()
        log = server.said()
    finally:
        await server.close()
        await asyncio.to_thread(temporal.stop)
    assert found_in(b"\n".join(said.parts)) == []
    assert found_in(log.encode()) == []
    for folder in (home, copy, tmp_path):
        for path in folder.rglob("*"):
            if path.is_file():
                assert found_in(path.read_bytes()) == [], path


def _backed_up(home: Path, target: Path) -> Path:
    places = ["--db-path", str(home / "stigmer.db"), "--storage-path", str(home / "storage")]
    command = parse(["backup", str(target), *places])
    assert command.operation is not None
    assert command.operation.run(command.settings, command.options).sound
    return target


def _opened(home: Path) -> set[str]:
    """Return the places whose canary is in the database, sealed."""
    from stigmer_sqlite import DatabaseFile

    from stigmer_server.kinds import registry
    from stigmer_server.sealed import all_sealed
    from stigmer_server.secrets import open_sealer

    sealer = open_sealer(None, home / "encryption.key")
    with DatabaseFile(home / "stigmer.db") as database, database.snapshot():
        values = {sealer.unseal(value.text, id=value.id, name=value.name) for value in all_sealed(database, registry())}
    return {place for place, canary in CANARIES.items() if canary in values}


def test_the_search_finds_a_secret_in_clear_and_in_base64() -> None:
    for place, canary in CANARIES.items():
        for before in ("", "a", "ab"):
            text = f'{before}{{"value": "{canary}"}}'.encode()
            assert found_in(text) == [place]
            assert found_in(base64.b64encode(text)) == [place]
    assert found_in(b"nothing of that") == []
