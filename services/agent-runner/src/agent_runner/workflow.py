"""The run of one execution, as Temporal remembers it: resolve, take a turn, and make sure that its end is told."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn, cast

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

with workflow.unsafe.imports_passed_through():
    # Not `from agent_runner`: that would run the module anew for every workflow.
    import agent_runner.contract as contract
    from agent_runner.contract import ResolvedRun, RunEnd, RunInput, RunResult, TurnResult

_PATIENT = RetryPolicy(initial_interval=timedelta(seconds=0.5), maximum_interval=timedelta(seconds=10))
"""For calls of the server, which may be away: tried until the activity's time is over."""
_TURN = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=200)
_SERVER_AWAY = timedelta(days=1)
_CALL = timedelta(seconds=15)
"""After which a call of the server is made again: so long a worker that was killed meanwhile is waited for."""
_LOOK_SECONDS = 60.0
"""After which a run looks whether those before it in its session are over, if nobody tells."""
_KNOWN_IDS = 256
"""How many ids of signals are remembered: the server can only repeat the last ones."""


@workflow.defn(name=contract.WORKFLOW)
class AgentExecutionWorkflow:
    """Runs one execution of an agent."""

    def __init__(self) -> None:
        """Begin; what is told to the run before it begins counts."""
        self._held = False
        self._known: dict[str, None] = {}
        self._news = False
        self._turning: asyncio.Task[TurnResult] | None = None

    @workflow.signal(name=contract.PAUSE)
    def pause(self, message: Any) -> None:
        """Let the turn stop between two steps, and hold."""
        if self._is_new(message):
            self._held = True
            if self._turning is not None:
                # The activity asks the server why, and stops at the end of the step in flight.
                self._turning.cancel()

    @workflow.signal(name=contract.RESUME)
    def resume(self, message: Any) -> None:
        """Let the turn go on."""
        if self._is_new(message):
            self._held = False
            self._news = True

    @workflow.signal(name=contract.ANSWER)
    def answer(self, message: Any) -> None:
        """Go on with what a person decided on a tool call; the execution tells what that is."""
        if self._is_new(message):
            self._news = True

    @workflow.signal(name=contract.NEXT)
    def next(self, message: Any) -> None:
        """Look whether the turn can begin."""
        if self._is_new(message):
            self._news = True

    def _is_new(self, message: Any) -> bool:
        if not isinstance(message, dict):
            return False
        key = str(cast("dict[str, Any]", message).get("id") or "")
        if key in self._known:
            return False
        if key:
            self._known[key] = None
            while len(self._known) > _KNOWN_IDS:
                del self._known[next(iter(self._known))]
        return True

    @workflow.run
    async def run(self, given: RunInput) -> RunResult:
        """Run the execution to its end; fails and is cancelled as the execution is."""
        try:
            self._known.update(dict.fromkeys(given.known))
            result = await self._turn(given, await self._resolve(given))
        except asyncio.CancelledError:
            await self._finish(RunEnd(execution_id=given.execution_id, phase=contract.CANCELLED))
            raise
        except Exception as error:
            if is_cancelled_exception(error):
                await self._finish(RunEnd(execution_id=given.execution_id, phase=contract.CANCELLED))
                raise
            if not isinstance(error, ActivityError):
                raise
            # A server that takes no report learns from the run itself how it ended.
            with contextlib.suppress(ActivityError):
                await self._finish(
                    RunEnd(execution_id=given.execution_id, phase=contract.FAILED, error=_sentence(error))
                )
            _fail(error)
        if result.phase == contract.FAILED:
            raise ApplicationError(
                result.error or "the agent's run failed", type=result.code or None, non_retryable=True
            )
        return RunResult(execution_id=given.execution_id, phase=result.phase)

    async def _resolve(self, given: RunInput) -> ResolvedRun:
        return await workflow.execute_activity(
            contract.RESOLVE,
            given,
            result_type=ResolvedRun,
            start_to_close_timeout=_CALL,
            schedule_to_close_timeout=_SERVER_AWAY,
            retry_policy=_PATIENT,
        )

    async def _turn(self, given: RunInput, run: ResolvedRun) -> TurnResult:
        """Take the turn to its end, in as many parts as it is paused, or waits for people."""
        while True:
            await workflow.wait_condition(lambda: not self._held)
            self._news = False
            self._turning = workflow.start_activity(
                contract.TURN,
                run,
                result_type=TurnResult,
                schedule_to_close_timeout=timedelta(seconds=run.turn_seconds),
                heartbeat_timeout=timedelta(seconds=contract.HEARTBEAT_TIMEOUT_SECONDS),
                retry_policy=_TURN,
                # The turn stops its calls and tells what it got; only then is the end reported.
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
            try:
                result = await self._turning
            finally:
                self._turning = None
            if result.phase == contract.WAITING:
                await self._told(None if not result.until else max(0.0, result.until - workflow.time()))
            elif result.phase == contract.QUEUED:
                await self._told(_LOOK_SECONDS)
                if workflow.info().is_continue_as_new_suggested() and not self._held:
                    workflow.continue_as_new(replace(given, known=tuple(self._known)))
            elif result.phase != contract.PAUSED:
                return result

    async def _told(self, seconds: float | None) -> None:
        """Wait for a person's decision or for one's place, so many seconds at most; it costs nothing meanwhile."""
        length = None if seconds is None else timedelta(seconds=seconds)
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._news, timeout=length)

    async def _finish(self, end: RunEnd) -> None:
        await workflow.execute_activity(
            contract.FINISH,
            end,
            start_to_close_timeout=_CALL,
            schedule_to_close_timeout=_SERVER_AWAY,
            retry_policy=_PATIENT,
        )


def _sentence(error: ActivityError) -> str:
    """Why an activity failed, for a person."""
    match error.cause:
        case ActivityTimeoutError(type=TimeoutType.HEARTBEAT):
            return "The worker that ran this turn stopped answering, and so did every other that took it over."
        case ActivityTimeoutError():
            return "The turn took longer than it may."
        case ApplicationError() as cause:
            return cause.message
        case cause:
            return str(cause or error)


def _fail(error: ActivityError) -> NoReturn:
    cause = error.cause
    kind = cause.type if isinstance(cause, ApplicationError) else type(cause).__name__
    raise ApplicationError(_sentence(error), type=kind, non_retryable=True) from error
