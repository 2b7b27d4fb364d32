"""Activities for a server that drives the runner itself: its own workflow asks for a turn as a whole.

Such a server, as Stigmer Cloud is one, knows the contract and not what was added to it. What our own workflow does with
Temporal (trying again, waiting for people and for one's place in the session) is done within the activity, as that
workflow allows it one attempt and no signal. They are on the runner's usual queue, beside the usual activities.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import timedelta

from loguru import logger
from stigmer_grpc.errors import RpcError
from stigmer_protos.descriptors import message_type
from stigmer_runner.contract import answer_of, message_of, working_seconds
from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from agent_runner import contract
from agent_runner.activities import HANDED_OVER, SERVER_UNAVAILABLE, AgentActivities, alive, handed_over
from agent_runner.contract import CANCELLED, FAILED, PAUSED, QUEUED, WAITING, ResolvedRun, RunEnd, RunInput, TurnResult
from agent_runner.errors import ExecutionEndedError, SupersededError
from agent_runner.resources import Message, Resources, status_of
from agent_runner.workspace.port import Workspaces

ENSURE_THREAD = "EnsureThread"
EXECUTE = "ExecuteGraphton"
CLEAN_UP = "CleanupSandbox"
"""Names of the activities, by which that server asks for them."""
_INVALID = "InvalidExecution"

_EXECUTION = "ai.stigmer.agentic.agentexecution.v1.AgentExecution"
_LESS = ("tool_calls", "sub_agent_executions", "todos", "messages")
"""What a result leaves out when it is too large; the server was told all of it."""
_ATTEMPTS = 6
"""More than so many inner attempts do not come before the model's error fails the run; see `TurnLimits`."""
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before further attempts."""
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 15.0
_STOPPED = "The server that runs this execution has given it up before its turn was over."
_TOO_LONG = "The turn took longer than the server that runs this execution lets it."
_UNDECIDED = "Nobody decided on what this turn waits for within the time that the server lets it take."


@dataclass(slots=True, kw_only=True)
class _Driven:
    """A turn that is being driven."""

    execution: str
    thread: str
    stop: asyncio.Event
    attempt: int = field(default_factory=lambda: (activity.info().attempt - 1) * _ATTEMPTS + 1)
    waits: bool = False
    """Whether people are to decide."""
    phase: str = FAILED
    """How it ended."""


class CloudActivities:
    """What the worker does for such a server.

    Args:
        activities: What the worker does for our own workflow.
        resources: The server.
        workspaces: Where sessions work; None: nowhere.
        most_bytes: What a result may take.
    """

    def __init__(
        self, activities: AgentActivities, resources: Resources, workspaces: Workspaces | None, *, most_bytes: int
    ) -> None:
        self._activities = activities
        self._resources = resources
        self._workspaces = workspaces
        self._most_bytes = most_bytes

    @activity.defn(name=ENSURE_THREAD)
    async def ensure_thread(self, session_id: str, agent_id: str) -> str:
        """Name the thread of a session, or one for an agent that has none."""
        return contract.thread_of(session_id) if session_id else f"ephemeral-{agent_id}-{uuid.uuid4().hex[:8]}"

    @activity.defn(name=EXECUTE)
    async def execute(self, execution: RawValue, thread_id: str) -> RawValue:
        """Take the turn of an AgentExecution in a thread; gives its AgentExecutionStatus, also when it failed.

        Raises:
            ApplicationError: The argument is no execution, or another attempt goes on with the turn, or may.
            CancelledError: The turn was cancelled, which the execution's status tells.
        """
        execution_id = _id_of(execution)
        async with alive() as stop:
            driven = _Driven(execution=execution_id, thread=thread_id, stop=stop)
            try:
                async with asyncio.timeout(_seconds()):
                    await self._take(driven)
            except TimeoutError:
                await self._end(driven, FAILED, _UNDECIDED if driven.waits else _TOO_LONG)
            except ApplicationError as error:
                # Another attempt has the turn, or gets it: it is not for this one to tell an end.
                if error.type in (HANDED_OVER, SupersededError.code):
                    raise
                await self._end(driven, FAILED, error.message)
            except asyncio.CancelledError:
                await self._stopped(driven)
                raise
            return await self._answer(driven)

    @activity.defn(name=CLEAN_UP)
    async def clean_up(self, sandbox_id: str) -> None:
        """Remove the workspace of a session, named by its thread or by its id; one that is gone is as good."""
        if self._workspaces is not None and sandbox_id:
            await self._workspaces.remove(sandbox_id)
            await self._workspaces.remove(contract.thread_of(sandbox_id))

    async def _take(self, driven: _Driven) -> None:
        """Take the turn to its end, trying again what can be tried again. Raises: ApplicationError."""
        run: ResolvedRun | None = None
        failures = 0
        while True:
            try:
                run = run or await self._resolve(driven)
                decided = await self._decided(driven)
                result = await self._activities.attempt(run, driven.attempt, driven.stop)
            except ApplicationError as error:
                if error.non_retryable or error.type == HANDED_OVER:
                    raise
                pause = error.next_retry_delay or timedelta(seconds=_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures, driven.attempt = failures + 1, driven.attempt + 1
                await _pause(driven, pause.total_seconds())
                continue
            if result.phase == PAUSED:
                raise asyncio.CancelledError
            if result.phase not in (WAITING, QUEUED):
                driven.phase = result.phase
                return
            await self._wait(driven, result, decided)

    async def _resolve(self, driven: _Driven) -> ResolvedRun:
        run = await self._activities.resolve(RunInput(driven.execution))
        # A session may have an id of its own for its thread, which that server leaves out.
        own = driven.thread in ("", contract.thread_of(run.session_id))
        return run if own else replace(run, thread=driven.thread)

    async def _wait(self, driven: _Driven, result: TurnResult, decided: frozenset[str]) -> None:
        """Wait for one's place in the session, or for a decision beyond those that were known before the turn."""
        driven.waits = result.phase == WAITING
        until = result.until - time.time() if result.until else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until):
                await _pause(driven, _LOOK_SECONDS)
                while driven.waits and await self._decided(driven) == decided:
                    await _pause(driven, _LOOK_SECONDS)
        driven.waits = False

    async def _decided(self, driven: _Driven) -> frozenset[str]:
        """The calls on which was decided; none while the server is away."""
        try:
            approvals = (await self._resources.execution(driven.execution)).status.approvals
        except (RpcError, ExecutionEndedError):
            return frozenset()
        return frozenset(call for call, approval in approvals.items() if approval.decision)

    async def _stopped(self, driven: _Driven) -> None:
        """Tell the end of a turn that is not wanted any more, unless another worker has it or gets it."""
        details = activity.cancellation_details()
        if details is not None and details.cancel_requested:
            phase, error = CANCELLED, ""
        elif details is not None and details.worker_shutdown:
            raise handed_over()
        elif _is_last():
            phase, error = FAILED, _STOPPED
        else:
            return
        with contextlib.suppress(ApplicationError):
            await self._end(driven, phase, error)

    async def _end(self, driven: _Driven, phase: str, error: str) -> None:
        """Report the end. Raises: ApplicationError when the server cannot be told; then it has to find out itself."""
        driven.phase = phase
        try:
            async with asyncio.timeout(_TELL_SECONDS):
                while True:
                    try:
                        return await self._activities.finish(
                            RunEnd(execution_id=driven.execution, phase=phase, error=error)
                        )
                    except ApplicationError as failure:
                        logger.warning("the end of {} is not told yet: {}", driven.execution, failure.message)
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise ApplicationError(f"the end could not be told: {error or phase}", type=SERVER_UNAVAILABLE) from None

    async def _answer(self, driven: _Driven) -> RawValue:
        try:
            status = status_of(await self._resources.execution(driven.execution))
        except (RpcError, ExecutionEndedError) as error:
            logger.info("how {} ended is not to be had: {}", driven.execution, error)
            status = _status(driven.phase)
        return answer_of(status, most_bytes=self._most_bytes, less=_LESS)


def _id_of(execution: RawValue) -> str:
    try:
        found = str(message_of(execution, _EXECUTION).metadata.id)
    except ValueError as error:
        raise ApplicationError(str(error), type=_INVALID, non_retryable=True) from None
    if not found:
        raise ApplicationError("the execution has no id", type=_INVALID, non_retryable=True)
    return found


def _status(phase: str) -> Message:
    """A status with nothing but a phase."""
    status: Message = message_type(f"{_EXECUTION}Status")()
    status.phase = status.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name[phase].number
    return status


def _is_last() -> bool:
    """Whether no attempt of the activity follows this one."""
    info = activity.info()
    most = 0 if info.retry_policy is None else info.retry_policy.maximum_attempts
    return 0 < most <= info.attempt


def _seconds() -> float | None:
    """How long the turn may take for its end to be told before the activity's time is over."""
    info = activity.info()
    spans = [span.total_seconds() for span in (info.start_to_close_timeout, info.schedule_to_close_timeout) if span]
    return working_seconds(min(spans)) if spans else None


async def _pause(driven: _Driven, seconds: float) -> None:
    """Let time pass. Raises: ApplicationError when the worker stops."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await driven.stop.wait()
            raise handed_over()
