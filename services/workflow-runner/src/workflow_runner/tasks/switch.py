"""`switch`: go where the first case that holds says; output the input."""

from collections.abc import Iterator

from stigmer_dsl.model import SwitchTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _Switch:
    task = SwitchTask
    type = "WORKFLOW_TASK_CONDITIONAL"

    def unsupported(self, task: SwitchTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: SwitchTask, step: Step) -> Outcome:
        default: str | None = None
        for item in task.switch:
            # The case without a condition counts when no other holds, wherever it stands.
            if item.case.when is None:
                default = item.case.then
            elif step.holds(item.case.when):
                return Outcome(output=step.input, then=item.case.then)
        return Outcome(output=step.input, then=default)


KIND: TaskKind[SwitchTask] = _Switch()
