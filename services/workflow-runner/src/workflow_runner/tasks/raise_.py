"""`raise`: fault with an error written here or in `use.errors`."""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import ErrorDefinition, RaiseTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault


class _Raise:
    task = RaiseTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: RaiseTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: RaiseTask, step: Step) -> Outcome:
        error = _definition(task, step)
        raise WorkflowError(
            type=_text(step.evaluate(error.type)),
            status=error.status,
            title=_text(step.evaluate(error.title)),
            detail=_text(step.evaluate(error.detail)),
            instance=_text(step.evaluate(error.instance)) or step.pointer,
        )


def _definition(task: RaiseTask, step: Step) -> ErrorDefinition:
    error = task.raise_.error
    if not isinstance(error, str):
        return error
    defined = step.workflow.use.errors.get(error)
    if defined is None:
        raise configuration_fault(f"use.errors has no {error!r}", step)
    return defined


def _text(value: Any) -> str:
    return "" if value is None else str(value)


KIND: TaskKind[RaiseTask] = _Raise()
