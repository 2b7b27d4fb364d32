"""`fork`: run tasks side by side; output the array of their outputs, or the output of the first to complete."""

from collections.abc import Iterator

from stigmer_dsl.model import ForkTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _Fork:
    task = ForkTask
    type = "WORKFLOW_TASK_PARALLEL"

    def unsupported(self, task: ForkTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: ForkTask, step: Step) -> Outcome:
        fork = task.fork
        return Outcome(
            output=await step.run_branches(fork.branches, "/fork/branches", step.input, compete=fork.compete)
        )


KIND: TaskKind[ForkTask] = _Fork()
