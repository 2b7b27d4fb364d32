"""For tests: a server that knows the contract only, in front of one that knows more.

It passes on what is in the contract and nothing else: no call, no field and no metadata that was added since.
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from stigmer_grpc import CallContext, Server, bind
from stigmer_grpc.binding import Handler, Service
from stigmer_grpc.channel import Channel
from stigmer_grpc.client import connect
from stigmer_grpc.errors import RpcError
from stigmer_protos import descriptors

from stigmer_runner.contract import drop_additions

Message = Any

_KINDS = (
    "Agent",
    "AgentExecution",
    "AgentInstance",
    "Environment",
    "Session",
    "Skill",
    "Workflow",
    "WorkflowExecution",
    "WorkflowInstance",
)


@dataclass(slots=True, kw_only=True)
class ContractServer:
    """The server.

    Attributes:
        address: Where it listens.
        reports: Every request of `updateStatus`, in order.
        refused: Names of methods that are refused for good, each with what it says.
    """

    address: str = ""
    reports: list[Message] = field(default_factory=list[Message])
    refused: dict[str, RpcError] = field(default_factory=dict[str, RpcError])


@contextlib.asynccontextmanager
async def contract_server(address: str) -> AsyncGenerator[ContractServer]:
    """Serve in front of the server at `address` until the block ends."""
    made = ContractServer()
    async with connect(address, pool=descriptors.pool()) as channel:
        names = (f"{kind}{half}Controller" for kind in _KINDS for half in ("Command", "Query"))
        services = [_passed_on(channel, f"ai.stigmer.agentic.{_package(name)}.v1.{name}", made) for name in names]
        server = Server(services, pool=descriptors.pool())
        (made.address,) = await server.start("127.0.0.1:0")
        try:
            yield made
        finally:
            await server.stop(grace=0)


def _package(controller: str) -> str:
    return controller.removesuffix("Controller").removesuffix("Command").removesuffix("Query").lower()


def _passed_on(channel: Channel, service: str, made: ContractServer) -> Service:
    stub = channel.service(service)

    def handler(method: str) -> Handler:
        async def handle(request: Message, context: CallContext) -> Message:
            del context
            drop_additions(request)
            if method == "updateStatus":
                made.reports.append(request)
            if method in made.refused:
                raise made.refused[method]
            answer = await stub.unary(method, request)
            drop_additions(answer)
            return answer

        return handle

    methods = descriptors.pool().FindServiceByName(service).methods
    return bind(
        descriptors.pool(),
        service,
        {method.name: handler(method.name) for method in methods if not method.server_streaming},
    )
