"""`call: http`: send a request, output what it gives."""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.model import CallHttpTask, HttpArguments

from workflow_runner import names
from workflow_runner.arguments import SAFE_METHODS, evaluate_endpoint, evaluate_object
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault

_REFUSED = frozenset({"CONNECT", "TRACE"})


class _CallHttp:
    task = CallHttpTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallHttpTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: CallHttpTask, step: Step) -> Outcome:
        arguments = _arguments(task.with_, step)
        repeatable = arguments["method"] in SAFE_METHODS
        return Outcome(output=await step.call(names.CALL_HTTP, arguments, repeatable=repeatable))


def _arguments(given: HttpArguments, step: Step) -> dict[str, Any]:
    method = str(step.evaluate(given.method)).upper()
    if not (method.isascii() and method.isalpha()) or method in _REFUSED:
        raise configuration_fault(f"{method!r} is no HTTP method that can be sent", step)
    arguments: dict[str, Any] = {
        **evaluate_endpoint(given.endpoint, step),
        "method": method,
        "headers": evaluate_object(given.headers, "with.headers", step),
        "query": list(evaluate_object(given.query, "with.query", step).items()),
        "output": given.output,
        "redirect": given.redirect,
    }
    if given.body is not None:
        arguments["body"] = step.evaluate(given.body)
    return arguments


KIND: TaskKind[CallHttpTask] = _CallHttp()
