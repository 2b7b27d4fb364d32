"""`call: grpc`: call a method of a gRPC service, output its answer, or the array of its answers.

`metadata.tls` of the task says whether the server speaks TLS, where the port does not tell.
"""

from collections.abc import Iterator

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.model import CallGrpcTask

from workflow_runner import names
from workflow_runner.arguments import check_text, evaluate_authentication, evaluate_resource
from workflow_runner.call_messages import GrpcArguments
from workflow_runner.flow import Outcome
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
        "service": check_text(step.evaluate(given.service.name), "with.service.name", step),
        "method": check_text(step.evaluate(given.method), "with.method", step),
        "host": check_text(step.evaluate(given.service.host), "with.service.host", step),
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


KIND: TaskKind[CallGrpcTask] = _CallGrpc()
