"""`call` of a function: run the task of `use.functions`, or of a catalog, with `with` as its input.

Functions of catalogs are fetched when the run is loaded and stand in `use.functions` from then on, by the name that
they are called by: a replay and a continued run have the same ones.
"""

from collections.abc import Iterator
from typing import cast

from stigmer_dsl.model import CallFunctionTask, TaskBase

from workflow_runner.arguments import evaluate_object
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault


class _CallFunction:
    task = CallFunctionTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: CallFunctionTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: CallFunctionTask, step: Step) -> Outcome:
        function = cast("TaskBase | None", step.workflow.use.functions.get(task.call))
        if function is None:
            raise configuration_fault(f"use.functions has no {task.call!r}", step)
        data = step.input if task.with_ is None else evaluate_object(task.with_, "with", step)
        return Outcome(output=await step.run_function(task.call, function, data))


KIND: TaskKind[CallFunctionTask] = _CallFunction()
