"""ExecutionRuntimeController: what runners ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from stigmer_grpc import CallContext, Handler, Service, bind
from stigmer_protos import descriptors

from stigmer_server.access.execution_tokens import EXECUTION_TOKEN, PURPOSE, ExecutionTokens
from stigmer_server.calls import call_of
from stigmer_server.commands.put_value import put_value
from stigmer_server.commands.save_checkpoint import save_checkpoint
from stigmer_server.messages import Message
from stigmer_server.queries.get_environment import get_environment
from stigmer_server.queries.get_value import get_value
from stigmer_server.queries.get_workflow_run import get_workflow_run
from stigmer_server.queries.issue_token import issue_token
from stigmer_server.resources import Resources


def runtime_service(resources: Resources) -> Service:
    """Return the service, bound."""
    empty = descriptors.message_type("google.protobuf.Empty")
    part = descriptors.message_type("ai.stigmer.runtime.v1.ValuePart")
    tokens = ExecutionTokens(partial(resources.sealer.derived, PURPOSE))

    def of(context: CallContext) -> Resources:
        return resources.on_behalf_of(call_of(context))

    async def workflow_run(request: Message, context: CallContext) -> Message:
        return await get_workflow_run(of(context), request.execution_id)

    async def token(request: Message, context: CallContext) -> Message:
        return await issue_token(of(context), tokens, request.execution_id)

    async def environment(request: Message, context: CallContext) -> Message:
        shown = str(context.metadata.get(EXECUTION_TOKEN, ""))
        return await get_environment(of(context), tokens, request.execution_id, shown)

    async def checkpoint(request: Message, context: CallContext) -> Message:
        await save_checkpoint(of(context), request)
        return empty()

    async def put(requests: AsyncIterator[Message], context: CallContext) -> Message:
        return await put_value(of(context), requests)

    async def value(request: Message, context: CallContext) -> AsyncIterator[Message]:
        async for chunk in get_value(of(context), request.execution_id, request.key):
            yield part(chunk=chunk)

    handlers: dict[str, Handler] = {
        "getWorkflowRun": workflow_run,
        "issueToken": token,
        "getEnvironment": environment,
        "saveCheckpoint": checkpoint,
        "putValue": put,
        "getValue": value,
    }
    return bind(descriptors.pool(), "ai.stigmer.runtime.v1.ExecutionRuntimeController", handlers)
