"""`do`: run tasks in order; output the last one's."""

from collections.abc import Iterator

from stigmer_dsl.model import DoTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _Do:
    task = DoTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: DoTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: DoTask, step: Step) -> Outcome:
        return Outcome(output=await step.run_tasks(task.do, "/do", step.input))


KIND: TaskKind[DoTask] = _Do()
