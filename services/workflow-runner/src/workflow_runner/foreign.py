"""Activities of other people's workers: what can be said about one, and what becomes of its failures.

Workflow code. Arguments of such an activity stand in history and are read by a worker that is not ours, so no secret
may be among them; and no name of Stigmer's own activities may be called, which would act for any execution.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from stigmer_dsl import durations
from stigmer_dsl.errors import STANDARD, DurationError, WorkflowError
from stigmer_dsl.model.element import Element
from temporalio.api.common.v1 import Payload
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

OWN_PREFIX = "stigmer/"
"""What the names of Stigmer's own activities begin with."""
_CONTRACT = frozenset({"ExecuteWorkflow", "validateWorkflow", "EnsureThread", "ExecuteGraphton", "CleanupSandbox"})
"""Names of those of the runners that servers ask for which know the contract only."""
_MOST_DETAIL = 2_000
_WAITED_FOR = {
    TimeoutType.SCHEDULE_TO_START: "no worker took it from its queue in time",
    TimeoutType.START_TO_CLOSE: "an attempt took too long",
    TimeoutType.SCHEDULE_TO_CLOSE: "all of its attempts took too long",
    TimeoutType.HEARTBEAT: "its worker gave no sign of life",
}


def is_own(name: str) -> bool:
    """Whether an activity is one of Stigmer's own, which acts for any execution that it is told."""
    return name.startswith(OWN_PREFIX) or name in _CONTRACT


def _length(value: Any) -> timedelta:
    try:
        found = durations.parse(value)
    except DurationError as error:
        raise ValueError(str(error)) from None
    if found <= timedelta():
        raise ValueError("must be longer than nothing")
    return found


Length = Annotated[timedelta, BeforeValidator(_length)]


class Retries(Element):
    """When and how often Temporal runs a failed activity again."""

    initial_interval: Length = timedelta(seconds=1)
    backoff_coefficient: Annotated[float, Field(ge=1)] = 2.0
    maximum_interval: Length = timedelta(seconds=60)
    maximum_attempts: Annotated[int, Field(ge=0)] = 5
    """0 stands for any number."""
    non_retryable_error_types: tuple[str, ...] = ()

    def policy(self) -> RetryPolicy:
        """Return it as Temporal has it."""
        return RetryPolicy(
            initial_interval=self.initial_interval,
            backoff_coefficient=self.backoff_coefficient,
            maximum_interval=max(self.initial_interval, self.maximum_interval),
            maximum_attempts=self.maximum_attempts,
            non_retryable_error_types=self.non_retryable_error_types or None,
        )


class Precedence(Element):
    """Which of several waiting activities a worker takes first."""

    priority_key: Annotated[int, Field(ge=1, le=5)] | None = None
    fairness_key: Annotated[str, Field(max_length=64)] | None = None
    fairness_weight: Annotated[float, Field(ge=0.001, le=1000)] | None = None


class ActivityOptions(Element):
    """What `metadata.activityOptions` says."""

    start_to_close_timeout: Length | None = None
    schedule_to_close_timeout: Length | None = None
    schedule_to_start_timeout: Length | None = None
    heartbeat_timeout: Length | None = None
    retry_policy: Retries = Retries()
    disable_eager_execution: bool = False
    """Read and of no matter: only a worker's activities on its own queue could begin eagerly."""
    summary: str | None = None
    priority: Precedence = Precedence()

    def start_to_close(self, seconds: float) -> timedelta | None:
        """Return how long one attempt may take; `seconds` where nothing is said."""
        if self.start_to_close_timeout is not None or self.schedule_to_close_timeout is not None:
            return self.start_to_close_timeout
        return timedelta(seconds=seconds)

    def precedence(self) -> Priority:
        """Return its priority as Temporal has it."""
        given = self.priority
        return Priority(
            priority_key=given.priority_key, fairness_key=given.fairness_key, fairness_weight=given.fairness_weight
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignActivity:
    """An activity to run, evaluated."""

    name: str
    arguments: Sequence[Any]
    task_queue: str
    options: ActivityOptions


def read_options(value: Any) -> ActivityOptions:
    """Return options.

    Raises:
        ValueError: They are none; says which and why.
    """
    try:
        return ActivityOptions.model_validate({} if value is None else value)
    except ValidationError as error:
        listed = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        )
        raise ValueError(listed) from None


def decoded(payload: Payload) -> Any:
    """Return the result of an activity as JSON: bytes as base64, other things as they were written.

    Raises:
        WorkflowError: It is written in a way that is not known here.
    """
    encoding = payload.metadata.get("encoding", b"").decode(errors="replace")
    match encoding:
        case "binary/null":
            return None
        case "binary/plain":
            return base64.b64encode(payload.data).decode()
        case "json/plain" | "json/protobuf":
            return json.loads(payload.data)
        case _:
            raise WorkflowError.standard("runtime", f"the activity's result is encoded as {encoding!r}, not as JSON")


def failure(activity: ForeignActivity, error: ActivityError) -> WorkflowError:
    """Return what a failed activity is to the workflow: its own type as title, or as type where it is a URI."""
    cause, named = error.cause, f"activity {activity.name!r} on queue {activity.task_queue!r}"
    if isinstance(cause, ActivityTimeoutError):
        said = _WAITED_FOR.get(cause.type, "") if cause.type is not None else ""
        return WorkflowError.standard("timeout", f"{named} timed out: {said or cause.message}")
    if not isinstance(cause, ApplicationError):
        return WorkflowError.standard("runtime", f"{named} failed: {cause or error}")
    standard = STANDARD["runtime"]
    kind = cause.type or ""
    details = f"; details: {_shown(cause.details)}" if cause.details else ""
    return WorkflowError(
        type=kind if "://" in kind else standard.type,
        status=standard.status,
        title=standard.title if not kind or "://" in kind else kind,
        detail=f"{named} failed: {cause.message}{details}",
    )


def _shown(details: Sequence[Any]) -> str:
    text = json.dumps(details[0] if len(details) == 1 else details, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST_DETAIL else text[:_MOST_DETAIL] + "…"
