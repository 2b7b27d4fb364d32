"""`call: validate`: hold data against a JSON Schema; output the data, or what is wrong with it."""

from collections.abc import Iterator

from stigmer_dsl.dataflow import check
from stigmer_dsl.errors import SchemaError
from stigmer_dsl.model import CallValidateTask

from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _CallValidate:
    task = CallValidateTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: CallValidateTask) -> Iterator[tuple[str, str]]:
        del task
        yield from ()

    async def run(self, task: CallValidateTask, step: Step) -> Outcome:
        given = task.with_
        data = step.input if given.input is None else step.evaluate(given.input)
        try:
            check("the data", data, given.schema_)
        except SchemaError as error:
            if not given.report:
                raise
            found = [{"pointer": pointer, "message": message} for pointer, message in error.violations]
            return Outcome(output={"valid": False, "violations": found})
        return Outcome(output={"valid": True, "violations": []} if given.report else data)


KIND: TaskKind[CallValidateTask] = _CallValidate()
