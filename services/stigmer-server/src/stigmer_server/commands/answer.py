"""Tell an execution what a person decided: on a tool call of an agent, or for a task of a workflow."""

from __future__ import annotations

from typing import Any

from stigmer_server import executions, outbox
from stigmer_server.errors import InvalidError, RefusedError
from stigmer_server.executions import Once
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, to_plain
from stigmer_server.questions import check_answer
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit

_CALL_WAITS = 5
"""ToolCallStatus: waiting for approval."""
_TASK_WAITS = 1000
"""WorkflowTaskStatus: waiting for approval."""
_APPROVE = 1
_ACTIONS = {_APPROVE: "APPROVE", 2: "SKIP", 3: "REJECT"}


async def submit_approval(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Decide on a tool call that waits, once, and return the execution. The same decision again changes nothing.

    Raises:
        InvalidError: It changes the arguments of a call that is not to be made.
        MissingError: There is no such execution.
        RefusedError: No such call waits, or something else was decided on it.
    """
    decision: dict[str, Any] = {"action": _ACTIONS[request.action], "comment": request.comment}
    if request.HasField("arguments"):
        if request.action != _APPROVE:
            raise InvalidError.of("arguments", "approval.arguments", "are changed only where the call is approved")
        decision["arguments"] = to_plain(request.arguments)

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, request.id)
        once = Once(
            id=outbox.named_id(request.id, "tool call", request.tool_call_id), digest=outbox.digest_of(decision)
        )
        if not _is_known(unit, once, f"tool call {request.tool_call_id}"):
            calls = [*stored.status.tool_calls, *(call for item in stored.status.messages for call in item.tool_calls)]
            waiting = any(call.id == request.tool_call_id and call.status == _CALL_WAITS for call in calls)
            if kind.is_finished(stored) or not waiting:
                msg = f"no tool call {request.tool_call_id} of {request.id} waits for approval"
                raise RefusedError(msg)
            # What was decided stands in the execution, where its run reads it, and not in Temporal's history.
            content = {"tool_call_id": request.tool_call_id, "action": decision["action"], **_signed(unit)}
            executions.send(unit, kind, stored, executions.ANSWER, content, once)
            _keep(stored.status.approvals[request.tool_call_id], request, content)
            return unit.replace_status(kind, stored)
        return Saved(kind=kind, id=request.id, wire=stored.SerializeToString())

    return resources.answer(await resources.transact_runs(work))


async def submit_task_approval(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Answer a task that waits for a person, once, and return the execution. The same answer again changes nothing.

    `task_name` may be a task's id, too. Of several tasks of a name that wait, the one that began first and has no
    answer yet gets it.

    Raises:
        DeniedError: The task asks somebody else.
        InvalidError: The answer is not one that the task offers, or its data are not what the form asks for.
        MissingError: There is no such execution.
        RefusedError: No such task waits, or it was answered otherwise.
    """
    answer = {
        "outcome": request.outcome,
        "form_data": to_plain(request.form_data) if request.HasField("form_data") else None,
        "comment": request.comment,
    }
    digest = outbox.digest_of(answer)

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, request.execution_id)
        answered = False
        for task in stored.status.tasks:
            if request.task_name not in (task.task_name, task.task_id):
                continue
            once = Once(id=_answer_id(stored, task), digest=digest)
            known = once.known(unit)
            if known is None and task.status == _TASK_WAITS:
                check_answer(task, request, unit.call.caller)
                content = {"task_id": task.task_id, "task_name": task.task_name, **answer, **_signed(unit)}
                executions.send(unit, kind, stored, executions.ANSWER, content, once)
                answered = True
                break
            answered = answered or (known is not None and known.digest == digest)
        if not answered:
            msg = f"no task {request.task_name} of {request.execution_id} waits for this answer"
            raise RefusedError(msg)
        return Saved(kind=kind, id=request.execution_id, wire=stored.SerializeToString())

    return resources.answer(await resources.transact_runs(work))


def _answer_id(execution: Message, task: Message) -> str:
    """Return the id of the answer to a task. A recovered run asks anew, by the same id of the task."""
    names = ("task", task.task_id, *([str(execution.status.recoveries)] if execution.status.recoveries else []))
    return outbox.named_id(execution.metadata.id, *names)


def _keep(approval: Message, request: Message, signed: dict[str, Any]) -> None:
    approval.decision = request.action
    approval.comment = request.comment
    if request.HasField("arguments"):
        approval.arguments.CopyFrom(request.arguments)
    approval.decided_by, approval.decided_at = signed["by"], signed["at"]


def _is_known(unit: Unit, once: Once, what: str) -> bool:
    """Tell whether the decision was taken already. Raises: RefusedError when another was."""
    known = once.known(unit)
    if known is not None and known.digest != once.digest:
        raise RefusedError(f"something else has been decided on {what}")
    return known is not None


def _signed(unit: Unit) -> dict[str, Any]:
    return {"by": unit.call.caller.id, "at": unit.now.ToJsonString()}
