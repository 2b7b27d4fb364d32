"""ExecutionRuntimeController: what runners ask for."""

from __future__ import annotations

from stigmer_grpc import CallContext, Service, bind
from stigmer_protos import descriptors

from stigmer_server.messages import Message
from stigmer_server.queries.get_environment import get_environment
from stigmer_server.queries.get_workflow_run import get_workflow_run
from stigmer_server.resources import Resources


def runtime_service(resources: Resources) -> Service:
    """Return the service, bound."""

    async def workflow_run(request: Message, context: CallContext) -> Message:
        del context
        return await get_workflow_run(resources, request.execution_id)

    async def environment(request: Message, context: CallContext) -> Message:
        del context
        return await get_environment(resources, request.execution_id)

    name = "ai.stigmer.runtime.v1.ExecutionRuntimeController"
    return bind(descriptors.pool(), name, {"getWorkflowRun": workflow_run, "getEnvironment": environment})
