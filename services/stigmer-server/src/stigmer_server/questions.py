"""What a task asks people, and whether an answer may be one: who gives it, its outcome, and the data with it.

The question is the input of the task that waits: `message`, `outcomes`, and perhaps `form` (a JSON Schema), `assignees`
(ids of callers) and `deadline`. A task that waits without any of them takes every answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from stigmer_server.access.roles import Role
from stigmer_server.calls import Caller
from stigmer_server.errors import DeniedError, InvalidError, Violation
from stigmer_server.messages import Message, to_plain, value_to_plain

_MOST_VIOLATIONS = 20


def check_answer(task: Message, request: Message, caller: Caller) -> None:
    """Hold an answer against the question of a task.

    Raises:
        DeniedError: The question is for others than the caller. The operator may answer every one.
        InvalidError: The outcome is not offered, or the data are not what the form asks for.
    """
    question = _question(task)
    assignees = question.get("assignees")
    if assignees and caller.role is not Role.OPERATOR and caller.id not in assignees:
        msg = f"task {task.task_name} asks {', '.join(map(str, assignees))}, and not {caller.id}"
        raise DeniedError(msg)
    outcomes = question.get("outcomes")
    if outcomes and request.outcome not in outcomes:
        offered = ", ".join(map(str, outcomes))
        raise InvalidError.of("outcome", "task_answer.outcome", f"{request.outcome!r} is none of: {offered}")
    if "form" in question:
        _check_data(question["form"], to_plain(request.form_data))


def _check_data(form: Any, data: Any) -> None:
    # Imported at first use: most servers never need it.
    from stigmer_dsl import WorkflowError
    from stigmer_dsl.schemas import violations

    try:
        broken = violations(form, data, "the form")[:_MOST_VIOLATIONS]
    except WorkflowError as error:
        raise InvalidError.of("form_data", "task_answer.form", error.detail) from error
    found = [
        Violation(field=f"form_data{pointer}", rule="task_answer.form", message=message) for pointer, message in broken
    ]
    if found:
        listed = "; ".join(f"{each.field}: {each.message}" for each in found)
        raise InvalidError(f"the data are not what the form asks for: {listed}", found)


def _question(task: Message) -> Mapping[str, Any]:
    found = value_to_plain(task.input_value) if task.HasField("input_value") else None
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}
