"""The activity for a server that drives the runner itself: its own workflow asks for a run as a whole.

Such a server, as Stigmer Cloud is one, knows the contract and not what was added to it. What it asks for is a run of
our own workflow, which ends the activity when it is over: so no worker holds a place for it, and none has to live as
long. It is on the runner's usual queue, beside the usual activities.
"""

import asyncio
import base64
from datetime import timedelta
from typing import Any

from loguru import logger
from stigmer_grpc.errors import NotFoundError
from stigmer_protos import descriptors
from stigmer_runner import StigmerServer
from stigmer_runner.contract import answer_of, message_of, working_seconds
from temporalio import activity
from temporalio.client import (
    AsyncActivityCancelledError,
    AsyncActivityHandle,
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
)
from temporalio.common import RawValue, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from workflow_runner import names
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.messages import Invocation

EXECUTE = "ExecuteWorkflow"
"""Name of the activity, by which that server asks for it."""

_PACKAGE = "ai.stigmer.agentic.workflowexecution.v1"
_EXECUTION = f"{_PACKAGE}.WorkflowExecution"
_FAILED, _CANCELLED = 4, 5
"""Numbers of ExecutionPhase."""
_LESS = ("tasks", "output")
"""What a result leaves out when it is too large; the server was told all of it."""
_OVERTIME = timedelta(minutes=1)
"""After which Temporal ends a run that nobody works on."""
_WATCH_SECONDS = 5.0

Message = Any


class CloudRuns:
    """Runs that such a server asks for.

    Args:
        server: The server.
        queue: The task queue of runs.
        most_bytes: What a result may take.
    """

    def __init__(self, server: StigmerServer, *, queue: str, most_bytes: int) -> None:
        self._server = server
        self._queue = queue
        self._most_bytes = most_bytes
        self._watching: set[asyncio.Task[None]] = set()

    @activity.defn(name=EXECUTE)
    async def execute(self, execution: RawValue) -> RawValue:
        """Have a WorkflowExecution run; the result is its WorkflowExecutionStatus, also when it failed.

        A further attempt gets the end of the run that an earlier one began.

        Raises:
            ApplicationError: The argument is no execution.
        """
        given = read(execution, _EXECUTION)
        id_ = str(given.metadata.id)
        if not id_:
            raise ApplicationError("the execution has no id", type="InvalidExecution", non_retryable=True)
        info, client = activity.info(), activity.client()
        run = client.get_workflow_handle(f"{names.DRIVEN}{id_}")
        token = base64.b64encode(info.task_token).decode()
        invocation: Invocation = {
            "execution_id": id_,
            "org": given.metadata.org,
            "driver": {"token": token, "seconds": _seconds(info.start_to_close_timeout)},
        }
        if await self._is_begun(client, run, invocation, info.start_to_close_timeout) or await _is_told(run, token):
            self._watch(client, info, run)
            activity.raise_complete_async()
        return await self._answer(id_)

    @activity.defn(name=names.TELL_DRIVER)
    async def tell(self, end: Any) -> None:
        """End the activity that waits for a run, `execution_id`, by its `token`; one that is over is left alone.

        Raises:
            RpcError: The server is away.
        """
        async with heartbeats(SERVER_SECONDS):
            status = await self._status(end["execution_id"])
            waiting = activity.client().get_async_activity_handle(task_token=base64.b64decode(end["token"]))
            try:
                if status.phase == _CANCELLED and await _reports_cancellation(waiting):
                    return
                await waiting.complete(answer_of(status, most_bytes=self._most_bytes, less=_LESS))
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise

    async def close(self) -> None:
        """Leave the runs alone; whoever works on them tells their ends."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def _answer(self, execution_id: str) -> RawValue:
        return answer_of(await self._status(execution_id), most_bytes=self._most_bytes, less=_LESS)

    async def _status(self, execution_id: str) -> Message:
        try:
            found = await self._server.call(f"{_EXECUTION}QueryController", "get", {"value": execution_id})
        except NotFoundError:
            gone: Message = descriptors.message_type(f"{_EXECUTION}Status")()
            gone.phase, gone.error = _FAILED, f"the execution {execution_id} does not exist any more"
            return gone
        found.status.ClearField("audit")
        return found.status

    async def _is_begun(
        self, client: Client, run: WorkflowHandle[Any, Any], invocation: Invocation, span: timedelta | None
    ) -> bool:
        """Begin a run; False: an earlier attempt has."""
        try:
            await client.start_workflow(
                names.WORKFLOW,
                invocation,
                id=run.id,
                task_queue=self._queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                execution_timeout=None if span is None else span + _OVERTIME,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    def _watch(self, client: Client, info: activity.Info, run: WorkflowHandle[Any, Any]) -> None:
        task = asyncio.create_task(_watched(client, info, run))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)


async def _watched(client: Client, info: activity.Info, run: WorkflowHandle[Any, Any]) -> None:
    """Give the activity signs of life, and cancel the run when nobody waits for it any more."""
    waiting = client.get_async_activity_handle(task_token=info.task_token)
    beat = info.heartbeat_timeout
    while True:
        await asyncio.sleep(_WATCH_SECONDS if beat is None else min(_WATCH_SECONDS, beat.total_seconds() / 3))
        try:
            await waiting.heartbeat()
        except AsyncActivityCancelledError:
            await _cancel(run)
            return
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                if await _is_given_up(client, info):
                    await _cancel(run)
                return
            logger.debug("{}: no sign of life: {}", run.id, error.message)


async def _is_given_up(client: Client, info: activity.Info) -> bool:
    """Whether no attempt of an activity that is over follows."""
    most = 0 if info.retry_policy is None else info.retry_policy.maximum_attempts
    if 0 < most <= info.attempt:
        return True
    try:
        asked = await client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id).describe()
    except RPCError as error:
        return error.status == RPCStatusCode.NOT_FOUND
    return asked.status is not WorkflowExecutionStatus.RUNNING


async def _cancel(run: WorkflowHandle[Any, Any]) -> None:
    """Cancel a run; one that has ended is left as it is."""
    try:
        await run.cancel()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            logger.warning("{} is not cancelled: {}", run.id, error.message)


async def _is_told(run: WorkflowHandle[Any, Any], token: str) -> bool:
    """Tell a run by which token its end is to be told; False: it has ended."""
    try:
        await run.signal(names.TOKEN, {"id": names.DRIVER, "token": token})
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _reports_cancellation(waiting: AsyncActivityHandle) -> bool:
    """End an activity as cancelled; False: nobody has cancelled it."""
    try:
        await waiting.report_cancellation()
    except RPCError as error:
        if error.status == RPCStatusCode.INVALID_ARGUMENT:
            return False
        raise
    return True


def _seconds(span: timedelta | None) -> float | None:
    """What a run may take for its end to be told before the activity's time is over."""
    return None if span is None else working_seconds(span.total_seconds())


def read(value: RawValue, name: str) -> Message:
    """Return an argument of a type. Raises: ApplicationError."""
    try:
        return message_of(value, name)
    except ValueError as error:
        raise ApplicationError(str(error), type="InvalidArgument", non_retryable=True) from None
