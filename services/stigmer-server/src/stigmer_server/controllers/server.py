"""ServerController: how the server is."""

from __future__ import annotations

from importlib.metadata import version

from stigmer_grpc import CallContext, Service, bind
from stigmer_protos import descriptors

from stigmer_server.messages import Message
from stigmer_server.monitoring.status import Status


def server_service(status: Status) -> Service:
    """Return the service, bound."""
    answer = descriptors.message_type("ai.stigmer.operations.v1.ServerStatus")

    async def handle(request: Message, context: CallContext) -> Message:
        del request, context
        snapshot = await status.snapshot()
        told: Message = answer(version=version("stigmer-server"), ready=snapshot.ready)
        told.started_at.FromNanoseconds(int(status.started_at * 1e9))
        for component in snapshot.components:
            told.components.add(name=component.name, state=component.state.value, detail=component.detail)
        return told

    return bind(descriptors.pool(), "ai.stigmer.operations.v1.ServerController", {"getStatus": handle})
