"""Temporal's own schedules, spoken to: one for each workflow that time starts.

What Temporal starts at each moment is a run of its own, which does no more than ask the server for the execution, for
as long as that takes. Imported when an engine connects, because it takes its time.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from stigmer_server.engine.port import Timer

FIRE = "stigmer/schedule/fire"
"""Name of the Temporal workflow that asks for the execution of a moment, and the beginning of the ids of its runs."""
_CALL_TIMEOUT = timedelta(seconds=10)
_CATCHUP = timedelta(seconds=60)
"""How late a moment may be that passed while Temporal was away; an older one is left out."""


async def keep(client: Client, timer: Timer, queue: str) -> None:
    """See `Runs.keep_timer`. Raises: RPCError."""
    made = _schedule(timer, queue)
    try:
        await client.create_schedule(_id(timer.workflow), made, rpc_timeout=_CALL_TIMEOUT)
    except ScheduleAlreadyRunningError:

        def changed(known: ScheduleUpdateInput) -> ScheduleUpdate:
            del known
            return ScheduleUpdate(schedule=made)

        handle = client.get_schedule_handle(_id(timer.workflow))
        await handle.update(changed, rpc_timeout=_CALL_TIMEOUT)


async def drop(client: Client, workflow: str) -> None:
    """See `Runs.drop_timer`. Raises: RPCError."""
    try:
        await client.get_schedule_handle(_id(workflow)).delete(rpc_timeout=_CALL_TIMEOUT)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise


async def start_later(client: Client, workflow: str, org: str, key: str, seconds: float, queue: str) -> None:
    """See `Runs.start_later`. Raises: RPCError."""
    try:
        await client.start_workflow(
            FIRE,
            {"workflow_id": workflow, "org": org, "key": key},
            id=f"{FIRE}/{workflow}/{key}",
            task_queue=queue,
            start_delay=timedelta(seconds=max(0.0, seconds)),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            rpc_timeout=_CALL_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return


def _id(workflow: str) -> str:
    return f"{FIRE}/{workflow}"


def _schedule(timer: Timer, queue: str) -> Schedule:
    intervals = [ScheduleIntervalSpec(every=timedelta(seconds=timer.every))] if timer.every else []
    return Schedule(
        action=ScheduleActionStartWorkflow(
            FIRE, {"workflow_id": timer.workflow, "org": timer.org}, id=_id(timer.workflow), task_queue=queue
        ),
        spec=ScheduleSpec(cron_expressions=[timer.cron] if timer.cron else [], intervals=intervals),
        # About the moments, not the executions: one that waits for the server stands for those that pass meanwhile.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCHUP),
        state=ScheduleState(paused=timer.paused, note=timer.reason or None),
    )
