"""Errands to the server: asking it and giving it reports, however long that takes. Workflow code."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from workflow_runner import names
from workflow_runner.activities.heartbeat import SERVER_SECONDS
from workflow_runner.messages import MOST_BYTES, Report
from workflow_runner.sizes import size_of

ONCE = RetryPolicy(maximum_attempts=1)
FOREVER = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))
LOCAL_LIMIT = timedelta(seconds=15)
"""What a local activity may take: until it is over, nothing else of its run reaches Temporal."""
FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=10)
_ORDINARY_LIMIT = timedelta(seconds=60)
TRANSFER_LIMIT = timedelta(minutes=15)
"""What an errand may take that brings files to the server, or from it."""
_FORMER_BYTES = 6_000_000
"""Up to here outputs and checkpoints have always been kept whole."""


async def ask(activity: str, argument: Any) -> tuple[Any, bool]:
    """Run an activity that may be repeated without harm, as cheaply as possible and for as long as it takes.

    First as a local activity, which leaves nearly nothing in history; if the other side is away, as an
    ordinary one that waits for it without holding anything up.

    Returns:
        What it gives, and whether that is in history already: not so what a local activity gives.

    Raises:
        FailureError: The activity failed for good.
    """
    try:
        given = await workflow.execute_local_activity(
            activity, argument, start_to_close_timeout=LOCAL_LIMIT, retry_policy=ONCE
        )
    except FailureError as error:
        if is_cancelled_exception(error) or _is_final(error):
            raise
        return await until_it_works(activity, argument), True
    return given, False


def until_it_works(activity: str, argument: Any, *, limit: timedelta = _ORDINARY_LIMIT) -> workflow.ActivityHandle[Any]:
    """Begin an activity that may be repeated without harm, and goes on until it has worked; a try has a `limit`."""
    return workflow.start_activity(
        activity,
        argument,
        start_to_close_timeout=limit,
        heartbeat_timeout=timedelta(seconds=SERVER_SECONDS),
        retry_policy=FOREVER,
    )


def application_error(error: FailureError) -> ApplicationError | None:
    """Return what the activity raised: an ordinary activity's error is wrapped, a local one's is not."""
    raised = error.cause if isinstance(error, ActivityError) else error
    return raised if isinstance(raised, ApplicationError) else None


def _is_final(error: FailureError) -> bool:
    raised = application_error(error)
    return raised is not None and raised.non_retryable


def longer(pause: timedelta) -> timedelta:
    """Return the pause after one."""
    return min(pause * 2, _LONGEST_PAUSE)


def keeps_whole(size: int) -> bool:
    """Whether the server keeps an output or a checkpoint of so many bytes whole; to be asked once it is needed."""
    return size <= _FORMER_BYTES or workflow.patched("whole-values")


async def deliver_durably(report: Report) -> None:
    """Give a report to the server once everything before it is in history."""
    if fits(report):
        await until_it_works(names.REPORT, report)
    else:
        await deliver(report)


async def deliver(report: Report) -> None:
    """Give a report to the server, however long that takes."""
    if fits(report):
        await ask(names.REPORT, report)
        return
    # Only the arguments of local activities stay out of history, so a large report waits with timers.
    pause = FIRST_PAUSE
    while True:
        try:
            await workflow.execute_local_activity(
                names.REPORT, report, start_to_close_timeout=_ORDINARY_LIMIT, retry_policy=ONCE
            )
        except FailureError as error:
            if is_cancelled_exception(error) or _is_final(error):
                raise
        else:
            return
        await workflow.sleep(pause)
        pause = longer(pause)


def fits(report: Report) -> bool:
    """Whether a report may stand in history. One of several tasks is small: the reporter sees to it."""
    checkpoint = report.get("checkpoint")
    if report.get("large") or (checkpoint and len(checkpoint["content"]) > MOST_BYTES):
        return False
    tasks = report["tasks"] if len(report["tasks"]) == 1 else []
    return size_of((tasks, report.get("output"), report.get("checkpoint"))) <= MOST_BYTES
