"""`wait`: let time pass; output the input."""

from collections.abc import Iterator
from datetime import timedelta

from stigmer_dsl.model import WaitTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _Wait:
    task = WaitTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: WaitTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: WaitTask, step: Step) -> Outcome:
        length = step.duration(task.wait)
        if length > timedelta():
            await step.sleep(length)
        return Outcome(output=step.input)


KIND: TaskKind[WaitTask] = _Wait()
