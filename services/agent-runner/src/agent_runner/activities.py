"""The activities of a run: thin, between Temporal and the turn."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import timedelta

from loguru import logger
from stigmer_grpc.errors import RpcError, StatusCode
from stigmer_runner.redaction import Redactor
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from agent_runner import contract
from agent_runner.contract import FINAL_PHASES, ResolvedRun, RunEnd, RunInput, TurnResult
from agent_runner.errors import AgentRunnerError, ExecutionEndedError
from agent_runner.resources import Resources, phase_name, status_of
from agent_runner.status.builder import StatusBuilder
from agent_runner.turn.failures import classify, fault
from agent_runner.turn.journal import Journal
from agent_runner.turn.loop import HandedOverError
from agent_runner.turn.turn import TransientError, TurnTaker

HANDED_OVER = "HandedOver"
SERVER_UNAVAILABLE = "ServerUnavailable"
"""Types of failures."""
_FINAL_CODES = frozenset(
    (
        StatusCode.NOT_FOUND,
        StatusCode.INVALID_ARGUMENT,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNIMPLEMENTED,
    )
)
"""What the server says for good: no repetition changes it."""


class AgentActivities:
    """What the worker does for the workflow.

    Every failure that leaves an activity is a sentence of ours with the secrets taken out: Temporal keeps it.
    """

    def __init__(self, *, resources: Resources, turns: TurnTaker, journal: Journal, turn_seconds: float) -> None:
        self._resources = resources
        self._turns = turns
        self._journal = journal
        self._turn_seconds = turn_seconds

    @activity.defn(name=contract.RESOLVE)
    async def resolve(self, given: RunInput) -> ResolvedRun:
        """Find the resources that the run is made of."""
        with _in_our_words(given.execution_id):
            return await self._resources.resolve(given.execution_id, org=given.org, turn_seconds=self._turn_seconds)

    @activity.defn(name=contract.TURN)
    async def turn(self, run: ResolvedRun) -> TurnResult:
        """Take the turn, from wherever an earlier attempt got to."""
        async with alive() as stop:
            return await self.attempt(run, activity.info().attempt, stop)

    async def attempt(self, run: ResolvedRun, number: int, stop: asyncio.Event) -> TurnResult:
        """Make one attempt, of a rising number, at a turn, until `stop` is set.

        Raises:
            ApplicationError: It failed, and another attempt may help unless the error is not retryable.
            CancelledError: The activity is to stop.
        """
        with _in_our_words(run.execution_id):
            try:
                result = await self._take(run, number, stop)
                if result.phase in FINAL_PHASES:
                    await self._leave(run.execution_id)
                return result
            except HandedOverError:
                raise handed_over() from None
            except asyncio.CancelledError:
                # Temporal cancels activities both when a person cancels the run and when a worker's time is over.
                details = activity.cancellation_details()
                if details is not None and details.worker_shutdown and not details.cancel_requested:
                    raise handed_over() from None
                raise
            except TransientError as error:
                delay = None if error.retry_after is None else timedelta(seconds=error.retry_after)
                raise ApplicationError(str(error), type=error.code, next_retry_delay=delay) from None

    async def _take(self, run: ResolvedRun, attempt: int, stop: asyncio.Event) -> TurnResult:
        """Take the turn; when the execution was paused, to the end of the step in flight."""
        turn = asyncio.create_task(self._turns.take(run, attempt=attempt, stop=stop))
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested or not await self._is_paused(run.execution_id):
                turn.cancel()
                await asyncio.gather(turn, return_exceptions=True)
                raise
        stop.set()
        try:
            return await turn
        except (HandedOverError, TransientError, RpcError):
            # What may go well later is tried later: Temporal makes no further attempt of what is to stop.
            return TurnResult(phase=contract.PAUSED)

    async def _leave(self, execution_id: str) -> None:
        """Let the session's next execution begin; one that does not hear of it looks by itself after a while."""
        following = await self._journal.leave(execution_id)
        if following:
            handle = activity.client().get_workflow_handle(contract.workflow_id(following))
            try:
                await handle.signal(contract.NEXT, {"id": f"after-{execution_id}"})
            except RPCError as error:
                logger.info("{} does not hear that it is next: {}", following, error.message)

    async def _is_paused(self, execution_id: str) -> bool:
        """Whether it is a pause that a run is asked to stop for; Temporal knows one kind of stopping only."""
        try:
            return phase_name(await self._resources.execution(execution_id)) == contract.PAUSED
        except (RpcError, ExecutionEndedError) as error:
            logger.warning("why {} is to stop cannot be found out: {}", execution_id, error)
            return False

    @activity.defn(name=contract.FINISH)
    async def finish(self, end: RunEnd) -> None:
        """Report the end of a run that could not report it itself; one that did is left alone."""
        with _in_our_words(end.execution_id):
            try:
                await self._report(end)
            except ExecutionEndedError as error:
                logger.info("{}", error)
            await self._journal.forget_effects(end.execution_id)
            await self._leave(end.execution_id)

    async def _report(self, end: RunEnd) -> None:
        execution = await self._resources.execution(end.execution_id)
        if phase_name(execution) in FINAL_PHASES:
            return
        builder = StatusBuilder(status_of(execution), Redactor(()))
        builder.finish(end.phase, error=end.error)
        # A late attempt of a run that a recovery has replaced is known by this.
        builder.status.temporal_workflow_id = activity.info().workflow_id or ""
        await self._resources.report(end.execution_id, builder.status)


@asynccontextmanager
async def alive() -> AsyncGenerator[asyncio.Event]:
    """Tell Temporal by a timer that the activity lives; gives an event that is set when the worker stops."""
    stop = asyncio.Event()

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(contract.HEARTBEAT_SECONDS)

    async def watch() -> None:
        await activity.wait_for_worker_shutdown()
        stop.set()

    tasks = (asyncio.create_task(beat()), asyncio.create_task(watch()))
    try:
        yield stop
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _in_our_words(execution_id: str) -> Generator[None]:
    """Tell whatever goes wrong in a sentence of ours; what it says itself may hold anything, and Temporal keeps it.

    A fault of this runner is told once, so that the run ends: no further attempt would be without it.

    Raises:
        ApplicationError: Something went wrong.
    """
    try:
        yield
    except ApplicationError:
        raise
    except RpcError as error:
        raise server_away(error) from None
    except Exception as error:  # noqa: BLE001 - whatever it is, Temporal must not keep its words
        known = classify(error, model="")
        if known is None:
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("{}: {} at\n{}", execution_id, type(error).__name__, where)
            known = fault(error)
        raise _refusal(known) from None


def _refusal(error: AgentRunnerError) -> ApplicationError:
    return ApplicationError(error.summary, type=error.code, non_retryable=not error.transient)


def handed_over() -> ApplicationError:
    """What an activity ends with that another worker is to go on with."""
    return ApplicationError(
        "the worker stops; another goes on with this",
        type=HANDED_OVER,
        next_retry_delay=timedelta(milliseconds=1),
    )


def server_away(error: RpcError) -> ApplicationError:
    """What an activity ends with when the server is away, or refuses for good."""
    final = error.code in _FINAL_CODES
    told = f"stigmer-server {'refuses' if final else 'cannot be used'}: {error.code.name}"
    return ApplicationError(told, type=SERVER_UNAVAILABLE, non_retryable=final)
