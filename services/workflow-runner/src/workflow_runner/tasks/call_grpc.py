"""`call: grpc`: call a method of a gRPC service, output its answer, or the array of its answers.

`metadata.tls` of the task says whether the server speaks TLS, where the port does not tell.
"""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import CallGrpcTask

from workflow_runner import names
from workflow_runner.arguments import evaluate_authentication, evaluate_resource
from workflow_runner.flow import Outcome
from workflow_runner.messages import GrpcArguments
from workflow_runner.tasks.port import Step, TaskKind


class _CallGrpc:
    task = CallGrpcTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallGrpcTask) -> Iterator[tuple[str, str]]:
        policy = task.with_.service.authentication
        if policy is not None and policy.digest is not None:
            yield "/with/service/authentication/digest", "digest authentication is one of HTTP alone"

    async def run(self, task: CallGrpcTask, step: Step) -> Outcome:
        # Whether a method has no side effects stands in its description, which only the activity gets to see.
        return Outcome(output=await step.call(names.CALL_GRPC, {**_arguments(task, step)}, repeatable=False))


def _arguments(task: CallGrpcTask, step: Step) -> GrpcArguments:
    given = task.with_
    return {
        "proto": None if given.proto is None else evaluate_resource(given.proto, step),
        "service": _text(step.evaluate(given.service.name), "service.name", step),
        "method": _text(step.evaluate(given.method), "method", step),
        "host": _text(step.evaluate(given.service.host), "service.host", step),
        "port": given.service.port,
        "tls": _tls(task, step),
        "authentication": evaluate_authentication(given.service.authentication, step),
        "arguments": None if given.arguments is None else step.evaluate(given.arguments),
    }


def _tls(task: CallGrpcTask, step: Step) -> bool | None:
    said = step.evaluate((task.metadata or {}).get("tls"))
    if said is not None and not isinstance(said, bool):
        raise WorkflowError.standard("expression", "metadata.tls is neither true nor false", instance=step.pointer)
    return said


def _text(value: Any, what: str, step: Step) -> str:
    if not isinstance(value, str):
        raise WorkflowError.standard("expression", f"with.{what} is not a text", instance=step.pointer)
    return value


KIND: TaskKind[CallGrpcTask] = _CallGrpc()
