"""`call: notification`: tell people or programs outside something; output what was told.

It is posted as JSON to an endpoint, or published as an event that whoever is interested subscribes to.
"""

from collections.abc import Iterator
from typing import Any

from stigmer_dsl.model import CallNotificationTask, EndpointConfiguration, NotificationArguments

from workflow_runner import names
from workflow_runner.arguments import evaluate_endpoint
from workflow_runner.call_messages import EmitArguments
from workflow_runner.flow import Outcome
from workflow_runner.tasks.emit import event_of
from workflow_runner.tasks.port import Step, TaskKind
from workflow_runner.tasks.run import text_of

EVENT_TYPE = "io.stigmer.notification"


class _CallNotification:
    task = CallNotificationTask
    type = "WORKFLOW_TASK_API_CALL"

    def unsupported(self, task: CallNotificationTask) -> Iterator[tuple[str, str]]:
        del task
        yield from ()

    async def run(self, task: CallNotificationTask, step: Step) -> Outcome:
        told = _told(task.with_, step)
        if task.with_.endpoint is None:
            attributes = {"type": EVENT_TYPE, "subject": told["title"] or told["level"], "data": told}
            arguments: EmitArguments = {"org": step.org, "event": event_of(attributes, step)}
            await step.call(names.EMIT, arguments, repeatable=True)
        else:
            request = _request(task.with_.endpoint, told, step)
            await step.call(names.CALL_HTTP, request, repeatable=False)
        return Outcome(output=told)


def _told(given: NotificationArguments, step: Step) -> dict[str, Any]:
    return {
        "level": given.level,
        "title": "" if given.title is None else text_of(step.evaluate(given.title), "the title", step),
        "message": text_of(step.evaluate(given.message), "the message", step),
        "recipients": [text_of(step.evaluate(each), "a recipient", step) for each in given.recipients or ()],
        "data": step.evaluate(given.data),
    }


def _request(endpoint: EndpointConfiguration, told: dict[str, Any], step: Step) -> dict[str, Any]:
    return {
        **evaluate_endpoint(endpoint, step),
        "method": "POST",
        "headers": {},
        "query": [],
        "output": "response",
        "redirect": False,
        "body": told,
    }


KIND: TaskKind[CallNotificationTask] = _CallNotification()
