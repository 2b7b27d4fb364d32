"""`call: openapi`: call an operation that an OpenAPI document describes, output what it gives."""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.model import CallOpenApiTask

from workflow_runner import names
from workflow_runner.arguments import SAFE_METHODS, evaluate_authentication, evaluate_object, evaluate_resource
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _CallOpenApi:
    task = CallOpenApiTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallOpenApiTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: CallOpenApiTask, step: Step) -> Outcome:
        given = task.with_
        operation: dict[str, Any] = {
            "document": evaluate_resource(given.document, step),
            "operation_id": str(step.evaluate(given.operation_id)),
        }
        # Whether the call may be repeated is the document's to say.
        method = await step.call(names.FIND_OPENAPI, operation, repeatable=True)
        arguments: dict[str, Any] = {
            **operation,
            "method": method,
            "parameters": evaluate_object(given.parameters, "with.parameters", step),
            "authentication": evaluate_authentication(given.authentication, step),
            "output": given.output,
            "redirect": given.redirect,
        }
        return Outcome(output=await step.call(names.CALL_OPENAPI, arguments, repeatable=method in SAFE_METHODS))


KIND: TaskKind[CallOpenApiTask] = _CallOpenApi()
