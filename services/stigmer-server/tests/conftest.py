from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stigmer_server.testing import Api, TemporalServer, Transport, manifest, serve

Make = Callable[..., Awaitable[Any]]
Specs = dict[str, Callable[[Api], Awaitable[dict[str, Any]]]]

DEFINITION = """
document: {dsl: 1.0.0, namespace: tests, name: flow, version: 0.1.0}
do:
  - greet:
      set: {greeting: hello}
"""


@pytest.fixture(params=["in-process", "tcp"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Api]:
    transport: Transport = request.param
    async with serve(tmp_path, transport=transport) as client:
        yield client


@pytest.fixture
async def local(tmp_path: Path) -> AsyncGenerator[Api]:
    """A server reached without a socket, for behaviour that no transport changes."""
    async with serve(tmp_path) as client:
        yield client


@pytest.fixture
def specs() -> Specs:
    """What a smallest spec of each kind is; parents are made on the way."""

    async def agent(api: Api) -> dict[str, Any]:
        return {"instructions": "Answer every question in one sentence."}

    async def agent_instance(api: Api) -> dict[str, Any]:
        return {"agentId": (await make_parent(api, "agent")).metadata.id}

    async def session(api: Api) -> dict[str, Any]:
        return {"agentInstanceId": (await make_parent(api, "agent_instance")).metadata.id, "subject": "A talk"}

    async def agent_execution(api: Api) -> dict[str, Any]:
        return {"agentId": (await make_parent(api, "agent")).metadata.id, "message": "Hello"}

    async def workflow(api: Api) -> dict[str, Any]:
        return {"definition": DEFINITION}

    async def workflow_instance(api: Api) -> dict[str, Any]:
        return {"workflowId": (await make_parent(api, "workflow")).metadata.id}

    async def workflow_execution(api: Api) -> dict[str, Any]:
        return {"workflowId": (await make_parent(api, "workflow")).metadata.id, "triggerMessage": "go"}

    async def environment(api: Api) -> dict[str, Any]:
        return {"description": "values", "data": {"REGION": {"value": "eu-west-1"}}}

    async def execution_context(api: Api) -> dict[str, Any]:
        return {"executionId": "wex-1", "data": {"REGION": {"value": "eu-west-1"}}}

    async def mcp_server(api: Api) -> dict[str, Any]:
        return {"stdio": {"command": "serve-tools"}}

    made = 0

    async def make_parent(api: Api, kind: str) -> Any:
        nonlocal made
        made += 1
        return await api(kind, "create", manifest(kind, f"parent {kind} {made}", await found[kind](api)))

    found: Specs = {
        "agent": agent,
        "agent_instance": agent_instance,
        "session": session,
        "agent_execution": agent_execution,
        "workflow": workflow,
        "workflow_instance": workflow_instance,
        "workflow_execution": workflow_execution,
        "environment": environment,
        "execution_context": execution_context,
        "mcp_server": mcp_server,
    }
    return found


@pytest.fixture
def make(specs: Specs) -> Make:
    """Create a resource: `await make(api, "agent", "name", spec={...}, org="acme")`."""

    async def create(api: Api, kind: str, name: str = "sample", *, spec: Any = None, **metadata: Any) -> Any:
        content: dict[str, Any] = {**await specs[kind](api), **(spec or {})}
        return await api(kind, "create", manifest(kind, name, content, **metadata))

    return create


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """A real Temporal for the whole run; every pytest-xdist worker has its own."""
    server = TemporalServer(tmp_path_factory.mktemp("temporal"))
    server.start()
    yield server
    server.stop()
