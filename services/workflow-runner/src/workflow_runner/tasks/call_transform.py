"""`call: transform`: output data in another form."""

from collections.abc import Iterator

from stigmer_dsl.model import CallTransformTask, Output

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import NO_VARIABLES, Step, TaskKind


class _CallTransform:
    task = CallTransformTask
    type = "WORKFLOW_TASK_TRANSFORM"

    def unsupported(self, task: CallTransformTask) -> Iterator[tuple[str, str]]:
        del task
        yield from ()

    async def run(self, task: CallTransformTask, step: Step) -> Outcome:
        given = task.with_
        data = step.input if given.input is None else step.evaluate(given.input)
        return Outcome(output=step.hand_on(Output.model_construct(as_=given.as_), None, data, NO_VARIABLES))


KIND: TaskKind[CallTransformTask] = _CallTransform()
