"""Answering a run that waits for a person: a task of a workflow, or a tool call of an agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.references import Reference
from stigmer_cli.resources import Message
from stigmer_cli.runs.control import Controls, waiting_task
from stigmer_cli.runs.execution import Status, read_execution
from stigmer_cli.runs.questions import DEFAULTS, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a person says."""

    where: str
    """Name of the task or id of the tool call; "" for the only one that waits."""
    outcome: str
    """For a task: one of the outcomes that it offers; "" for the one that means what `action` says."""
    action: str
    """For a tool call: APPROVE, SKIP or REJECT."""
    comment: str = ""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """For a task: what the person filled in. For a tool call that is approved: arguments in place of the model's."""

    async def give(self, controls: Controls, reference: Reference, execution: Message) -> Message:
        """Give the answer, and return the run as it is then.

        Raises:
            ConflictError: Nothing waits.
            InvalidInputError: Several things wait and none is named, or a tool call was given what is for tasks.
        """
        if reference.kind.enum_name == "workflow_execution":
            name = waiting_task(execution, self.where)
            request = {
                "execution_id": reference.id,
                "task_name": name,
                "outcome": self.outcome or self._meant(execution, name),
                "form_data": dict(self.data),
                "comment": self.comment,
            }
            return await controls.call(reference, "submitWorkflowTaskApproval", request)
        return await self._decide(controls, reference, execution)

    def _meant(self, execution: Message, name: str) -> str:
        tasks = [task for task in read_execution(execution).tasks if name in (task.name, task.id)]
        waiting = [task for task in tasks if task.status is Status.WAITING_FOR_APPROVAL] or tasks
        action = "APPROVE" if self.action == "APPROVE" else "REJECT"
        return next((Question.of(task).outcome_for(action) for task in waiting), DEFAULTS[action])

    async def _decide(self, controls: Controls, reference: Reference, execution: Message) -> Message:
        if self.data and self.action != "APPROVE":
            msg = f"--data does not go with {reference.id}: a tool call that is not made has no arguments"
            raise InvalidInputError(msg, hint="tell the model with --comment")
        request: dict[str, Any] = {
            "id": reference.id,
            "tool_call_id": waiting_task(execution, self.where),
            "action": f"APPROVAL_ACTION_{self.action}",
            "comment": self.comment,
        }
        if self.data:
            request["arguments"] = dict(self.data)
        return await controls.call(reference, "submitApproval", request)
