"""Running other workflows: executions of their own, which the server keeps, lists and starts."""

import asyncio
import base64
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_protos import descriptors
from stigmer_runner import StigmerServer, fill_value, is_too_deep
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.executions import CALL_DEPTH, CALLED_BY, IDEMPOTENCY_KEY, REFUSALS
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.activities.values import LARGE_BYTES, Values, json_text, own_execution
from workflow_runner.call_messages import Started, StartRequest
from workflow_runner.sizes import size_of

_EXECUTION = "ai.stigmer.agentic.workflowexecution.v1"
_WORKFLOWS = "ai.stigmer.agentic.workflow.v1.WorkflowQueryController"
_REFERENCE = "ai.stigmer.commons.apiresource.ApiResourceReference"
_LATEST = "latest"
_ORGANIZATION = 2

Message = Any


class Subflows:
    """Starts executions for `run: workflow` tasks."""

    def __init__(self, server: StigmerServer, values: Values) -> None:
        self._server = server
        self._values = values

    @activity.defn(name=names.START_EXECUTION)
    async def start(self, request: Any) -> Any:
        """Create the execution of a `StartRequest`, once however often this is repeated; return `Started`.

        Raises:
            RpcError: The server is away.
        """
        async with heartbeats(SERVER_SECONDS):
            try:
                return await self._start(request)
            except tuple(REFUSALS) as refusal:
                detail = f"the workflow {_named(request)} cannot be run: {refusal.message}"
                return {"error": WorkflowError.standard(REFUSALS[type(refusal)], detail).to_dict()}

    async def _start(self, request: StartRequest) -> Started:
        reference: Message = descriptors.message_type(_REFERENCE)(org=request["org"], slug=request["name"])
        found = await self._server.call(_WORKFLOWS, "getByReference", reference)
        document = found.spec.document
        if request["namespace"] != document.namespace or request["version"] not in (_LATEST, document.version):
            detail = (
                f"there is no workflow {_named(request)}, but {document.namespace}/{document.name}:{document.version}"
            )
            return {"error": WorkflowError.standard("configuration", detail).to_dict()}
        execution: Message = descriptors.message_type(f"{_EXECUTION}.WorkflowExecution")()
        execution.api_version, execution.kind = "agentic.stigmer.ai/v1", "WorkflowExecution"
        execution.metadata.name = f"{request['name']}-{request['key'][:12]}"
        execution.metadata.org = found.metadata.org
        execution.metadata.owner_scope = _ORGANIZATION
        execution.spec.workflow_id = found.metadata.id
        if request["token"]:
            execution.spec.callback_token = base64.b64decode(request["token"])
            execution.metadata.labels[CALLED_BY] = own_execution()
        if "depth" in request:
            execution.metadata.labels[CALL_DEPTH] = str(request["depth"])
        await self._fill_input(execution.spec, request["input"])
        made = await self._server.call(
            f"{_EXECUTION}.WorkflowExecutionCommandController",
            "create",
            execution,
            metadata={IDEMPOTENCY_KEY: request["key"]},
        )
        return {"id": made.metadata.id}

    async def _fill_input(self, spec: Message, data: Any) -> None:
        if (await asyncio.to_thread(size_of, data)) <= LARGE_BYTES and not is_too_deep(data):
            fill_value(spec.input, data)
            return
        spec.large_input_of = own_execution()
        text = await asyncio.to_thread(json_text, data)
        spec.large_input.CopyFrom(await self._values.put(spec.large_input_of, text))


def _named(request: StartRequest) -> str:
    return f"{request['namespace']}/{request['name']}:{request['version']}"
