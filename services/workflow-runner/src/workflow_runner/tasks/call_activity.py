"""`call: activity`: run an activity of another Temporal worker, output its result."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from stigmer_dsl import Problem
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model import CallActivityTask, TaskBase, Workflow

from workflow_runner.arguments import check_text
from workflow_runner.document import find
from workflow_runner.flow import Outcome
from workflow_runner.foreign import ActivityOptions, ForeignActivity, is_own, read_options
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault

_OPTIONS = "activityOptions"


def without_queue(workflow: Workflow) -> list[Problem]:
    """Return the activities of a workflow that name no queue, for a runner that has none for them."""
    message = "name a taskQueue: this runner has none for activities that name none (STIGMER_ACTIVITY_TASK_QUEUE)"
    return [
        Problem(code="unsupported", message=message, pointer=f"{pointer}/with")
        for pointer, task in find(workflow, CallActivityTask)
        if not task.with_.task_queue
    ]


class _CallActivity:
    task = CallActivityTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallActivityTask) -> Iterator[tuple[str, str]]:
        if is_own(task.with_.name):
            yield "/with/name", _owned(task.with_.name)
        given = (task.metadata or {}).get(_OPTIONS)
        if given is not None and not _has_expression(given):
            try:
                read_options(given)
            except ValueError as error:
                yield f"/metadata/{_OPTIONS}", str(error)

    async def run(self, task: CallActivityTask, step: Step) -> Outcome:
        given = task.with_
        name = check_text(step.evaluate(given.name), "the activity's name", step)
        if is_own(name):
            raise configuration_fault(_owned(name), step)
        queue = check_text(step.evaluate(given.task_queue or ""), "taskQueue", step)
        activity = ForeignActivity(
            name=name,
            arguments=_arguments(given.arguments, step),
            task_queue=queue or step.limits.get("activity_task_queue", ""),
            options=_options(task, step),
        )
        if not activity.task_queue:
            raise configuration_fault("with.taskQueue says nothing, and this runner has no queue for that", step)
        return Outcome(output=await step.run_activity(activity))


def _owned(name: str) -> str:
    return f"{name!r} is one of Stigmer's own activities and cannot be called"


def _arguments(given: Any, step: Step) -> list[Any]:
    found: Any = [] if given is None else step.evaluate(given if isinstance(given, str) else list(given))
    if not isinstance(found, list):
        raise WorkflowError.standard("expression", "with.arguments is not an array", instance=step.pointer)
    return cast("list[Any]", found)


def _options(task: TaskBase, step: Step) -> ActivityOptions:
    """Return what the document says of all activities, and the task of this one."""
    merged: dict[str, Any] = {}
    for metadata in (step.workflow.document.metadata, task.metadata):
        found = step.evaluate((metadata or {}).get(_OPTIONS, {}))
        if not isinstance(found, Mapping):
            raise configuration_fault(f"metadata.{_OPTIONS} is not an object", step)
        merged |= cast("Mapping[str, Any]", found)
    try:
        return read_options(merged)
    except ValueError as error:
        raise configuration_fault(f"metadata.{_OPTIONS}: {error}", step) from None


def _has_expression(value: Any) -> bool:
    match value:
        case str():
            return is_expression(value)
        case dict():
            return any(map(_has_expression, cast("dict[str, Any]", value).values()))
        case list():
            return any(map(_has_expression, cast("list[Any]", value)))
        case _:
            return False


KIND: TaskKind[CallActivityTask] = _CallActivity()
