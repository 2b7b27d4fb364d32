"""Running other workflows: executions of their own, which the server keeps, lists and starts."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_grpc.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RpcError,
)
from stigmer_protos import descriptors
from stigmer_runner import StigmerServer, fill_value, read_value
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.activities.values import LARGE_BYTES, Values, json_text, own_execution
from workflow_runner.messages import CallAnswer, Started, StartRequest
from workflow_runner.sizes import size_of

_EXECUTION = "ai.stigmer.agentic.workflowexecution.v1"
_WORKFLOWS = "ai.stigmer.agentic.workflow.v1.WorkflowQueryController"
_REFERENCE = "ai.stigmer.commons.apiresource.ApiResourceReference"
_KEY = "x-stigmer-idempotency-key"
_LATEST = "latest"
_REFUSALS: Mapping[type[RpcError], str] = {
    InvalidArgumentError: "validation",
    PermissionDeniedError: "authorization",
    NotFoundError: "configuration",
}
"""What the server says for good, and which standard error that is. Anything else may be otherwise the next time."""
_COMPLETED, _ORGANIZATION = 3, 2

Message = Any


class Subflows:
    """Starts executions for `run: workflow` tasks, and tells how they ended."""

    def __init__(self, server: StigmerServer, values: Values) -> None:
        self._server = server
        self._values = values

    @activity.defn(name=names.AWAIT_EXECUTION)
    async def wait(self, key: str) -> None:
        """Give the run the token by which the server ends this activity when the execution has ended."""
        info = activity.info()
        run = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        await run.signal(names.TOKEN, {"id": key, "token": base64.b64encode(info.task_token).decode()})
        activity.raise_complete_async()

    @activity.defn(name=names.START_EXECUTION)
    async def start(self, request: Any) -> Any:
        """Create the execution of a `StartRequest`, once however often this is repeated; return `Started`.

        Raises:
            RpcError: The server is away.
        """
        async with heartbeats(SERVER_SECONDS):
            try:
                return await self._start(request)
            except tuple(_REFUSALS) as refusal:
                detail = f"the workflow {_named(request)} cannot be run: {refusal.message}"
                return {"error": WorkflowError.standard(_REFUSALS[type(refusal)], detail).to_dict()}

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
        execution.spec.callback_token = base64.b64decode(request["token"])
        await self._fill_input(execution.spec, request["input"])
        made = await self._server.call(
            f"{_EXECUTION}.WorkflowExecutionCommandController", "create", execution, metadata={_KEY: request["key"]}
        )
        return {"id": made.metadata.id}

    async def _fill_input(self, spec: Message, data: Any) -> None:
        if (await asyncio.to_thread(size_of, data)) <= LARGE_BYTES:
            fill_value(spec.input, data)
            return
        spec.large_input_of = own_execution()
        text = await asyncio.to_thread(json_text, data)
        spec.large_input.CopyFrom(await self._values.put(spec.large_input_of, text))

    @activity.defn(name=names.READ_EXECUTION)
    async def read(self, execution: str) -> Any:
        """Return how an execution ended, as a `CallAnswer`.

        Raises:
            RpcError: The server is away.
        """
        async with heartbeats(SERVER_SECONDS):
            try:
                found = await self._server.call(
                    f"{_EXECUTION}.WorkflowExecutionQueryController", "get", {"value": execution}
                )
            except NotFoundError:
                detail = f"the execution {execution} was deleted before its end was known"
                return {"error": WorkflowError.standard("runtime", detail).to_dict()}
            if found.status.phase == _COMPLETED and found.status.HasField("large_output"):
                return {"output": await self._values.output(execution)}
        return _answer(execution, found.status)

    @activity.defn(name=names.CANCEL_EXECUTION)
    async def cancel(self, execution: str) -> None:
        """Ask an execution to stop; one that has ended, or is gone, is left alone.

        Raises:
            RpcError: The server is away.
        """
        async with heartbeats(SERVER_SECONDS):
            try:
                await self._server.call(f"{_EXECUTION}.WorkflowExecutionControlController", "cancel", {"id": execution})
            except (*_REFUSALS, FailedPreconditionError):
                return


def _answer(execution: str, status: Message) -> CallAnswer:
    if status.phase == _COMPLETED:
        return {"output": read_value(status.output_value)}
    if status.HasField("error_details"):
        return {"error": _problem(read_value(status.error_details))}
    detail = status.error or status.status_reason or "it did not complete"
    return {"error": WorkflowError.standard("runtime", f"the execution {execution} ended: {detail}").to_dict()}


def _problem(details: Any) -> dict[str, Any]:
    # Where it happened is a place in another document.
    return {key: value for key, value in details.items() if key != "instance"}


def _named(request: StartRequest) -> str:
    return f"{request['namespace']}/{request['name']}:{request['version']}"
