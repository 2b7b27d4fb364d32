"""`call: a2a`: ask an agent that speaks Agent2Agent, output the result of its method."""

import uuid
from collections.abc import Iterator
from typing import Any, cast

from stigmer_dsl.model import CallA2aTask

from workflow_runner import names
from workflow_runner.arguments import evaluate_endpoint, evaluate_object, evaluate_resource
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind, configuration_fault

_READING = frozenset(
    {
        "tasks/get",
        "tasks/list",
        "tasks/resubscribe",
        "tasks/pushNotificationConfig/get",
        "tasks/pushNotificationConfig/list",
        "agent/getAuthenticatedExtendedCard",
    }
)
_MESSAGES = frozenset({"message/send", "message/stream"})


class _CallA2a:
    task = CallA2aTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallA2aTask) -> Iterator[tuple[str, str]]:
        return iter(())

    async def run(self, task: CallA2aTask, step: Step) -> Outcome:
        given = task.with_
        if given.agent_card is not None:
            endpoint = evaluate_resource(given.agent_card, step)
        elif given.server is not None:
            endpoint = evaluate_endpoint(given.server, step)
        else:
            raise configuration_fault("neither agentCard nor server says where the agent is", step)
        parameters = evaluate_object(given.parameters, "with.parameters", step)
        arguments: dict[str, Any] = {
            "method": given.method,
            "parameters": _with_message(parameters, step) if given.method in _MESSAGES else parameters,
            "endpoint": endpoint,
            "is_card": given.agent_card is not None,
        }
        return Outcome(output=await step.call(names.CALL_A2A, arguments, repeatable=given.method in _READING))


def _with_message(parameters: dict[str, Any], step: Step) -> dict[str, Any]:
    """Return parameters whose message has an id, a role and its kind."""
    given: Any = parameters.get("message")
    if not isinstance(given, dict):
        raise configuration_fault("with.parameters has no message", step)
    number = (int(step.random() * 2**53) << 64) | int(step.random() * 2**53)
    defaults = {"kind": "message", "messageId": str(uuid.UUID(int=number, version=4)), "role": "user"}
    return {**parameters, "message": {**defaults, **cast("dict[str, Any]", given)}}


KIND: TaskKind[CallA2aTask] = _CallA2a()
