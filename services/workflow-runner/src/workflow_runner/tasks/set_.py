"""`set`: output the given data."""

from collections.abc import Iterator

from stigmer_dsl.model import SetTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _Set:
    task = SetTask
    type = "WORKFLOW_TASK_TRANSFORM"

    def unsupported(self, task: SetTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: SetTask, step: Step) -> Outcome:
        made = step.evaluate_text(task.set) if isinstance(task.set, str) else step.evaluate(task.set)
        return Outcome(output=made)


KIND: TaskKind[SetTask] = _Set()
