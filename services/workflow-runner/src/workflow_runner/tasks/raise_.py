"""`raise`: fault with an error written here or in `use.errors`."""

import json
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
            type=_text(error.type, step),
            status=error.status,
            title=_text(error.title, step),
            detail=_text(error.detail, step),
            instance=_text(error.instance, step) or step.pointer,
        )


def _definition(task: RaiseTask, step: Step) -> ErrorDefinition:
    error = task.raise_.error
    if not isinstance(error, str):
        return error
    defined = step.workflow.use.errors.get(error)
    if defined is None:
        raise configuration_fault(f"use.errors has no {error!r}", step)
    return defined


def _text(given: str | None, step: Step) -> str:
    value: Any = step.evaluate(given)
    if value is None or isinstance(value, str):
        return value or ""
    # Runs of before say it as Python does.
    return json.dumps(value, ensure_ascii=False) if step.limits.get("raises_json") else str(value)


KIND: TaskKind[RaiseTask] = _Raise()
