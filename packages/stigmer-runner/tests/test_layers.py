"""Environments of executions on a server that hands none out, over a real connection."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from stigmer_grpc import CallContext, FailedPreconditionError, NotFoundError, Server, bind, connect
from stigmer_protos import descriptors
from stigmer_runner import Environments, StigmerServer
from stigmer_runner.layers import read_layers

AGENTIC = "ai.stigmer.agentic"
SECRET = {"value": "from-region", "isSecret": True}
RESOURCES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "aex-1": (
        "AgentExecution",
        {"spec": {"sessionId": "ses-1", "runtimeEnv": {"RUN": {"value": "run"}, "TOKEN": {"value": "own"}}}},
    ),
    "ses-1": ("Session", {"spec": {"agentInstanceId": "ain-1"}}),
    "ain-1": (
        "AgentInstance",
        {
            "kind": "AgentInstance",
            "metadata": {"org": "acme", "slug": "helper"},
            "spec": {"agentId": "agt-1", "environmentRefs": [{"slug": "base"}, {"slug": "region"}]},
        },
    ),
    "agt-1": (
        "Agent",
        {"spec": {"envSpec": {"data": {"MODE": {"value": "slow"}, "TOKEN": {"isSecret": True}, "EMPTY": {}}}}},
    ),
    "wex-1": ("WorkflowExecution", {"spec": {"workflowInstanceId": "win-1"}}),
    "win-1": ("WorkflowInstance", {"spec": {"workflowId": "wfl-1", "envRefs": [{"slug": "nowhere"}]}}),
    "wfl-1": ("Workflow", {}),
    "acme/region": ("Environment", {"spec": {"data": {"MODE": SECRET}}}),
    "/base": ("Environment", {"spec": {"data": {"MODE": {"value": "base"}, "BASE": {"value": "base"}}}}),
}


def _service(kind: str) -> Any:
    async def get(request: Any, _: CallContext) -> Any:
        return _found(request.value)

    async def by_reference(request: Any, _: CallContext) -> Any:
        return _found(f"{request.org}/{request.slug}")

    handlers: dict[str, Any] = {"get": get}
    if kind == "Environment":
        handlers["getByReference"] = by_reference
    return bind(descriptors.pool(), f"{AGENTIC}.{kind.lower()}.v1.{kind}QueryController", handlers)


def _found(key: str) -> Any:
    if key not in RESOURCES:
        raise NotFoundError(f"there is no {key}")
    kind, content = RESOURCES[key]
    made = descriptors.message_type(f"{AGENTIC}.{kind.lower()}.v1.{kind}")()
    return json_format.ParseDict(content, made, descriptor_pool=descriptors.pool())


@pytest.fixture
async def server() -> AsyncGenerator[StigmerServer]:
    pool = descriptors.pool()
    serving = Server([_service(kind) for kind in dict.fromkeys(kind for kind, _ in RESOURCES.values())], pool=pool)
    (address,) = await serving.start("127.0.0.1:0")
    async with connect(address, pool=pool) as channel:
        yield StigmerServer(channel)
    await serving.stop(grace=0)


async def test_layers_lie_over_each_other_and_what_any_calls_secret_is_secret(server: StigmerServer) -> None:
    environment = await Environments(server).get("aex-1")

    assert environment.variables == {"BASE": "base", "RUN": "run"}
    assert environment.secrets == {"MODE": "from-region", "TOKEN": "own"}
    assert environment.redactor.text("it says from-region") != "it says from-region"


async def test_an_environment_that_is_named_and_does_not_exist_is_refused(server: StigmerServer) -> None:
    with pytest.raises(FailedPreconditionError, match="nowhere"):
        await read_layers(server, "wex-1")


async def test_what_was_read_does_not_show_its_values(server: StigmerServer) -> None:
    assert "own" not in repr(await read_layers(server, "aex-1"))
