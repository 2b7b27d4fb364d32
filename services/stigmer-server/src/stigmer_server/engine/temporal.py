"""Temporal, spoken to: runs are started, signalled, ended and asked after. Knows nothing of the database.

Imported when an engine connects, because it takes its time.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    SignalWorkflowExecutionRequest,
)
from temporalio.client import (
    Client,
    Interceptor,
    WorkflowExecutionStatus,
    WorkflowHistoryEventFilterType,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.converter import PayloadConverter
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from stigmer_server.engine import timers
from stigmer_server.engine.port import AwayError, Outcome, RefusedByTemporalError, RunState, Timer, Work
from stigmer_server.messages import to_plain
from stigmer_server.transitions import Phase

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_CONNECT_SECONDS = 10.0
_CALL_TIMEOUT = timedelta(seconds=10)
_QUERY_TIMEOUT = timedelta(seconds=15)
"""A run that has ended has to be gone through again first."""
_MOST_CHANGES = 5
CHECKPOINT = "stigmer.checkpoint"
"""Query of a workflow's run: a part of how far it got."""
_POLLER_SECONDS = 90.0
"""A worker asks again at least every minute; one that has not for so long is gone."""
_MOST_BYTES = 1_900_000
"""What Temporal takes as the result of an activity, nearly."""
_MOST_REASON = 4000
_AWAY = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
    }
)
"""What a service says that cannot answer now, as against one that says no."""


async def connect(address: str, namespace: str, tracer: Tracer | None = None) -> TemporalRuns:
    """Reach Temporal, and make sure that the namespace is there; `tracer` makes spans of what is asked of it.

    Raises: AwayError.
    """
    interceptors = _interceptors(tracer)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            client = await Client.connect(address, namespace=namespace, interceptors=interceptors)
            # A server that has just been set up for development makes its namespace after it begins to answer.
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except (RuntimeError, RPCError, OSError, TimeoutError) as error:
        raise AwayError(str(error) or type(error).__name__) from error
    return TemporalRuns(client, tracer)


def _interceptors(tracer: Tracer | None) -> list[Interceptor]:
    if tracer is None:
        return []
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor(tracer)]


class TemporalRuns:
    """Runs of one namespace."""

    def __init__(self, client: Client, tracer: Tracer | None = None) -> None:
        self._client = client
        self._tracer = tracer

    @contextmanager
    def _span(self, name: str, run: str) -> Generator[dict[str, str]]:
        """Have what the interceptor makes no span of in one, and tell what has a run join it."""
        if self._tracer is None:
            yield {}
            return
        from opentelemetry.propagate import inject
        from opentelemetry.trace import SpanKind

        carrier: dict[str, str] = {}
        with self._tracer.start_as_current_span(
            name,
            kind=SpanKind.CLIENT,
            attributes={"temporalWorkflowID": run},
            record_exception=False,
            set_status_on_exception=False,
        ):
            inject(carrier)
            yield carrier

    async def start(self, work: Work, queue: str) -> bool:
        """See `Runs`."""
        try:
            await self._client.start_workflow(
                work.kind.run,
                {"execution_id": work.id, "org": work.org},
                id=work.run,
                task_queue=queue,
                memo={"activityTaskQueue": queue},
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                rpc_timeout=_CALL_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            # What is not found when a run is started is the namespace.
            raise _raised(error, missing_is_away=True) from error
        return True

    async def signal(self, run: str, name: str, payload: Any, id: str) -> bool:
        """See `Runs`. Temporal, too, knows a request by its id as long as the run goes on in the same history."""
        request = SignalWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run),
            signal_name=name,
            identity=self._client.identity,
            request_id=id,
        )
        request.input.payloads.extend(await self._client.data_converter.encode([payload]))
        try:
            with self._span(f"SignalWorkflow:{name}", run) as carrier:
                if carrier:
                    # Where Temporal's own interceptor puts it, and looks for it.
                    request.header.fields["_tracer-data"].CopyFrom(PayloadConverter.default.to_payload(carrier))
                await self._client.workflow_service.signal_workflow_execution(request, timeout=_CALL_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise _raised(error) from error
        return True

    async def cancel(self, run: str, reason: str) -> None:
        """See `Runs`."""
        try:
            with self._span("CancelWorkflow", run):
                await self._client.get_workflow_handle(run).cancel(reason=reason, rpc_timeout=_CALL_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise _raised(error) from error

    async def terminate(self, run: str, reason: str) -> None:
        """See `Runs`."""
        try:
            with self._span("TerminateWorkflow", run):
                await self._client.get_workflow_handle(run).terminate(reason=reason, rpc_timeout=_CALL_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise _raised(error) from error

    async def tell(self, outcome: Outcome) -> None:
        """See `Runs`. An execution goes as a proto-JSON payload, as Temporal's converters know it."""
        handle = self._client.get_async_activity_handle(task_token=outcome.token)
        try:
            if outcome.execution is not None:
                await handle.complete(_fitting(outcome.execution), rpc_timeout=_CALL_TIMEOUT)
            else:
                error = ApplicationError(
                    outcome.error, outcome.details, type=f"EXECUTION_{outcome.phase}", non_retryable=True
                )
                await handle.fail(error, rpc_timeout=_CALL_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise _raised(error) from error

    async def state(self, run: str) -> RunState | None:
        """See `Runs`."""
        handle = self._client.get_workflow_handle(run)
        try:
            description = await handle.describe(rpc_timeout=_CALL_TIMEOUT)
            if description.status in (None, WorkflowExecutionStatus.RUNNING):
                return RunState()
            last: Any = None
            handle = self._client.get_workflow_handle(run, run_id=description.run_id)
            last_only = WorkflowHistoryEventFilterType.CLOSE_EVENT
            async for event in handle.fetch_history_events(event_filter_type=last_only, rpc_timeout=_CALL_TIMEOUT):
                last = event
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise _raised(error) from error
        phase, sentence = _ENDS.get(description.status, _FAILED)
        said = _said(description.status, last)
        return RunState(ended=phase, reason=f"{sentence}: {said}" if said else sentence)

    async def checkpoint(self, run: str) -> Any:
        """See `Runs`. It comes in parts, each of which fits into an answer; one of a run that goes on may change."""
        handle = self._client.get_workflow_handle(run)
        try:
            for _ in range(_MOST_CHANGES):
                text, digest = "", ""
                while True:
                    part = await handle.query(CHECKPOINT, len(text), rpc_timeout=_QUERY_TIMEOUT)
                    digest = digest or part["digest"]
                    text += part["text"]
                    if part["digest"] != digest or len(text) >= part["length"]:
                        break
                if part["digest"] == digest:
                    return orjson.loads(zlib.decompress(base64.b64decode(text)))
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise _raised(error) from error
        except (WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
            raise RefusedByTemporalError(str(error)) from error
        raise AwayError(f"{run} goes on faster than it can be asked")

    async def pollers(self, queue: str) -> int:
        """See `Runs`."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            answer = await self._client.workflow_service.describe_task_queue(request, timeout=_CALL_TIMEOUT)
        except RPCError as error:
            raise _raised(error, missing_is_away=True) from error
        oldest = datetime.now(UTC) - timedelta(seconds=_POLLER_SECONDS)
        return sum(
            poller.last_access_time.ToDatetime(UTC) >= oldest or not poller.HasField("last_access_time")
            for poller in answer.pollers
        )

    async def keep_timer(self, timer: Timer, queue: str) -> None:
        """See `Runs`."""
        try:
            await timers.keep(self._client, timer, queue)
        except RPCError as error:
            raise _raised(error, missing_is_away=True) from error

    async def drop_timer(self, workflow: str) -> None:
        """See `Runs`."""
        try:
            await timers.drop(self._client, workflow)
        except RPCError as error:
            raise _raised(error) from error

    async def start_later(self, workflow: str, org: str, key: str, seconds: float, queue: str) -> None:
        """See `Runs`."""
        try:
            await timers.start_later(self._client, workflow, org, key, seconds, queue)
        except RPCError as error:
            raise _raised(error, missing_is_away=True) from error


_FAILED = (Phase.FAILED, "the run failed")
_ENDS = {
    WorkflowExecutionStatus.COMPLETED: (Phase.FAILED, "the run ended, but how it ended was never reported"),
    WorkflowExecutionStatus.FAILED: _FAILED,
    WorkflowExecutionStatus.CANCELED: (Phase.CANCELLED, "the run was cancelled outside of Stigmer"),
    WorkflowExecutionStatus.TERMINATED: (Phase.TERMINATED, "the run was terminated outside of Stigmer"),
    WorkflowExecutionStatus.TIMED_OUT: (Phase.FAILED, "the run took longer than Temporal lets it"),
}


def _said(status: WorkflowExecutionStatus | None, event: Any) -> str:
    """Return what the last event of a run tells of its end."""
    if event is None:
        return ""
    if status is WorkflowExecutionStatus.FAILED:
        return str(event.workflow_execution_failed_event_attributes.failure.message)[:_MOST_REASON]
    if status is WorkflowExecutionStatus.TERMINATED:
        ended = event.workflow_execution_terminated_event_attributes
        return " by ".join(part for part in (ended.reason, ended.identity) if part)[:_MOST_REASON]
    return ""


def _raised(error: RPCError, *, missing_is_away: bool = False) -> Exception:
    missing = error.status == RPCStatusCode.NOT_FOUND and missing_is_away
    if missing or error.status in _AWAY:
        return AwayError(error.message)
    return RefusedByTemporalError(error.message)


def _fitting(execution: Any) -> Any:
    """Return the execution, without what happened on the way if it would be too large otherwise."""
    if len(orjson.dumps(to_plain(execution))) <= _MOST_BYTES:
        return execution
    small = type(execution)()
    small.CopyFrom(execution)
    for name in ("tasks", "tool_calls", "sub_agent_executions", "todos"):
        if name in small.status.DESCRIPTOR.fields_by_name:
            small.status.ClearField(name)
    if "messages" in small.status.DESCRIPTOR.fields_by_name:
        del small.status.messages[:-1]
    if "large_output" in small.status.DESCRIPTOR.fields_by_name and len(orjson.dumps(to_plain(small))) > _MOST_BYTES:
        # Whoever waits can ask for it: Temporal takes nothing so large, and would leave them waiting.
        for name in ("output", "output_value"):
            small.status.ClearField(name)
        small.spec.ClearField("input")
    return small
