"""Models that a run asks. The runner of agents does it, which knows providers, keys and prices. Workflow code."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from workflow_runner import names
from workflow_runner.activities.heartbeat import CALL_SECONDS
from workflow_runner.call_messages import CallAnswer, ModelRequest
from workflow_runner.errands import FOREVER

_SPARE_SECONDS = 60.0
"""What the activity has beyond the time of its call: to get the environment, to load a provider's package."""


async def ask_model(request: ModelRequest, limits: Mapping[str, Any], summary: str) -> CallAnswer:
    """Ask a model and return its answer, which from then on is in history.

    A runner that is lost meanwhile is followed by another, which asks again: nothing but its price depends on how
    often a model was asked.
    """
    queue, waits = limits["agent_task_queue"], limits["model_start_seconds"]
    try:
        answer = await workflow.execute_activity(
            names.ASK_MODEL,
            request,
            task_queue=queue,
            schedule_to_start_timeout=timedelta(seconds=waits),
            start_to_close_timeout=timedelta(seconds=request["seconds"] + _SPARE_SECONDS),
            heartbeat_timeout=timedelta(seconds=CALL_SECONDS),
            retry_policy=FOREVER,
            summary=summary,
        )
    except FailureError as error:
        if is_cancelled_exception(error):
            raise asyncio.CancelledError from None
        return {"error": _unasked(error, queue, waits).to_dict()}
    return cast("CallAnswer", answer)


def _unasked(error: FailureError, queue: str, seconds: float) -> WorkflowError:
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ActivityTimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_START:
        detail = (
            f"no agent-runner took up the call of the model within {seconds:g} seconds: "
            f"does one run on the queue {queue!r}, and is it not too busy?"
        )
        return WorkflowError.standard("communication", detail)
    return WorkflowError.standard("runtime", f"the model was not asked: {cause or error}")
