"""Lifecycle events of workflows and tasks, as the specification of the language names them.

They are published in the transaction that stores what they tell of, so each once and none that did not happen; and
only where the operator asks for them, because a run of a thousand tasks has three thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from google.protobuf.json_format import ParseDict
from stigmer_protos import descriptors

from stigmer_server import naming
from stigmer_server.errors import MissingError
from stigmer_server.messages import Message, value_to_plain
from stigmer_server.transitions import Phase

if TYPE_CHECKING:
    from stigmer_server.unit import Unit

Level = Literal["off", "workflows", "tasks"]
"""Of what events are published: of nothing, of executions, or of their tasks, too."""
PREFIX = "io.serverlessworkflow."
"""What the types of all of them begin with."""
_PHASES = {
    Phase.IN_PROGRESS: "started",
    Phase.PAUSED: "suspended",
    Phase.COMPLETED: "completed",
    Phase.FAILED: "faulted",
    Phase.CANCELLED: "cancelled",
    Phase.TERMINATED: "cancelled",
}
_STATUSES = {
    "pending": "pending",
    "started": "running",
    "resumed": "running",
    "suspended": "suspended",
    "completed": "completed",
    "faulted": "faulted",
    "cancelled": "cancelled",
}
_IN_PROGRESS, _COMPLETED, _FAILED = 2, 3, 4
_WAITING = 1000
_OPEN = frozenset({_IN_PROGRESS, _WAITING})
_MOST_BYTES = 256 * 1024
"""An output that takes more is left out: the execution has it."""


class Seen(NamedTuple):
    """What was known of a task."""

    status: int
    attempt: int
    listens: bool


def seen(unit: Unit, execution: Message) -> Mapping[str, Seen]:
    """Return what is known of the tasks of an execution, before that is changed; nothing where nobody will ask."""
    if unit.lifecycle == "off":
        return {}
    return {task.task_id: Seen(task.status, task.attempt, _listens(task)) for task in execution.status.tasks}


def phase_changed(unit: Unit, execution: Message, before: Phase, phase: Phase) -> None:
    """Tell of a new phase of a workflow execution."""
    if unit.lifecycle == "off":
        return
    name = "resumed" if before is Phase.PAUSED and phase is Phase.IN_PROGRESS else _PHASES.get(phase, "")
    status = execution.status
    more: dict[str, Any] = {}
    if name == "started":
        more["definition"] = _definition(unit, execution)
    elif name == "completed":
        more |= _output(status)
    elif name == "faulted":
        more["error"] = _error(status)
    if name:
        _publish(unit, execution, f"workflow.{name}", {**_workflow(execution), f"{name}At": _now(unit), **more})
    said = _STATUSES.get(name or "pending", "pending")
    _publish(
        unit, execution, "workflow.status-changed", {**_workflow(execution), "updatedAt": _now(unit), "status": said}
    )
    if unit.lifecycle == "tasks" and name in ("suspended", "resumed"):
        for task in status.tasks:
            if task.status in _OPEN:
                _task(unit, execution, task, name)


def tasks_changed(unit: Unit, execution: Message, before: Mapping[str, Seen], ids: Iterable[str]) -> None:
    """Tell what has become of some tasks since `seen`."""
    if unit.lifecycle == "off":
        return
    wanted = set(ids)
    for task in execution.status.tasks:
        if task.task_id in wanted:
            known = before.get(task.task_id)
            if unit.lifecycle == "tasks":
                _tell(unit, execution, task, known)
            _tell_of_correlation(unit, execution, task, known)


def tasks_closed(unit: Unit, execution: Message, before: Mapping[str, Seen], phase: Phase) -> None:
    """Tell of the tasks that end only because their execution has."""
    if unit.lifecycle != "tasks":
        return
    name = "cancelled" if phase in (Phase.CANCELLED, Phase.TERMINATED) else "faulted"
    for task in execution.status.tasks:
        known = before.get(task.task_id)
        if known is not None and known.status in _OPEN and task.status == _FAILED:
            _task(unit, execution, task, name, error=_error(task))


def _tell(unit: Unit, execution: Message, task: Message, known: Seen | None) -> None:
    if task.status not in (_IN_PROGRESS, _WAITING, _COMPLETED, _FAILED):
        return
    if known is None:
        _task(unit, execution, task, "created")
        _task(unit, execution, task, "started")
    elif task.attempt > known.attempt:
        _task(unit, execution, task, "retried")
    if known is not None and known.status == task.status:
        return
    if task.status == _COMPLETED:
        _task(unit, execution, task, "completed", **_output(task))
    elif task.status == _FAILED:
        error = _error(task)
        _task(unit, execution, task, "cancelled" if error.get("detail") == "cancelled" else "faulted", error=error)


def _tell_of_correlation(unit: Unit, execution: Message, task: Message, known: Seen | None) -> None:
    """Tell that the workflow waits for events with this task, or has had them; a wait that fails is not completed."""
    listened = known is not None and known.listens
    if not (listened or _listens(task)):
        return
    if not listened:
        _publish(unit, execution, "workflow.correlation-started", {**_workflow(execution), "startedAt": _now(unit)})
    if task.status == _COMPLETED and (known is None or known.status != _COMPLETED):
        data = {**_workflow(execution), "completedAt": _now(unit)}
        _publish(unit, execution, "workflow.correlation-completed", data)


def _listens(task: Message) -> bool:
    return "listening" in task.metadata.fields


def _task(unit: Unit, execution: Message, task: Message, name: str, **more: Any) -> None:
    data = {
        "workflow": _workflow(execution)["name"],
        "task": task.reference or task.task_name,
        "id": task.task_id,
        f"{name}At": _now(unit),
        **more,
    }
    _publish(unit, execution, f"task.{name}", data)


def _workflow(execution: Message) -> dict[str, Any]:
    return {"name": execution.metadata.id}


def _definition(unit: Unit, execution: Message) -> dict[str, str]:
    try:
        workflow = unit.require("workflow", execution.spec.workflow_id)
    except MissingError:
        return {}
    document = workflow.spec.document
    return {"name": document.name, "namespace": document.namespace, "version": document.version}


def _output(message: Message) -> dict[str, Any]:
    if message.HasField("output_value") and message.output_value.ByteSize() <= _MOST_BYTES:
        return {"output": value_to_plain(message.output_value)}
    return {}


def _error(message: Message) -> dict[str, Any]:
    found = value_to_plain(message.error_details) if message.HasField("error_details") else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {"title": message.error}


def _now(unit: Unit) -> str:
    return str(unit.now.ToJsonString())


def _publish(unit: Unit, execution: Message, name: str, data: dict[str, Any]) -> None:
    from stigmer_server import cloud_events
    from stigmer_server.commands.publish import begin_log

    org = execution.metadata.org
    if not org:
        return
    event: Message = descriptors.message_type("ai.stigmer.events.v1.CloudEvent")(
        id=naming.new_ulid(),
        source=f"/workflow-executions/{execution.metadata.id}",
        spec_version="1.0",
        type=f"{PREFIX}{name}.v1",
        subject=execution.metadata.id,
        data_content_type="application/json",
    )
    event.time.CopyFrom(unit.now)
    ParseDict(data, event.json_data)
    begin_log(unit, org)
    unit.transaction.save(cloud_events.record_of(org, event), expected=0)
