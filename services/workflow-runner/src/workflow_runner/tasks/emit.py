"""`emit`: publish a CloudEvent; output it as it was published.

What the document leaves out is made here, in the workflow, so that a repeated publication is one of the same event.
"""

import uuid
from collections.abc import Iterator
from typing import Any

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.events import text_of
from stigmer_dsl.model import EmitTask

from workflow_runner import names
from workflow_runner.call_messages import EmitArguments
from workflow_runner.chains import DEPTH, depth_of, refuse_endless
from workflow_runner.data import iso8601
from workflow_runner.flow import Outcome
from workflow_runner.tasks.port import Step, TaskKind


class _Emit:
    task = EmitTask
    type = "WORKFLOW_TASK_CUSTOM"

    def unsupported(self, task: EmitTask) -> Iterator[tuple[str, str]]:
        if task.emit.event.with_.type is None:
            yield "/emit/event/with", "an event has a `type`"

    async def run(self, task: EmitTask, step: Step) -> Outcome:
        attributes = step.evaluate(task.emit.event.with_.attributes())
        arguments: EmitArguments = {"org": step.org, "event": event_of(attributes, step)}
        return Outcome(output=await step.call(names.EMIT, arguments, repeatable=True))


def event_of(given: dict[str, Any], step: Step) -> dict[str, Any]:
    """Return an event with attributes that are evaluated already, and what they leave out."""
    refuse_endless(step.limits, "the event is not published")
    document = step.workflow.document
    made: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(uuid.UUID(int=_number(step), version=4)),
        "source": f"/workflows/{document.namespace}/{document.name}",
        "time": iso8601(step.now()),
    }
    if given.get("data") is not None:
        made["datacontenttype"] = "application/json"
    if depth_of(step.limits):
        made[DEPTH] = str(depth_of(step.limits))
    for name, value in given.items():
        if name == "data":
            made[name] = value
        elif isinstance(value, (dict, list)):
            detail = f"the attribute {name} of the event is neither text nor number"
            raise WorkflowError.standard("expression", detail, instance=step.pointer)
        elif value is not None:
            made[name] = text_of(value)
    return made


def _number(step: Step) -> int:
    """Return 128 bits by chance, the same when replayed."""
    number = 0
    for _ in range(4):
        number = number << 32 | int(step.random() * 2**32)
    return number


KIND: TaskKind[EmitTask] = _Emit()
