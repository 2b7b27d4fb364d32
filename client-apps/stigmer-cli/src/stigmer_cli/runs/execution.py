"""A workflow execution as the person who started it sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from stigmer_cli import console
from stigmer_cli.messages import value_to_plain
from stigmer_cli.plain import is_object
from stigmer_cli.resources import Message
from stigmer_cli.runs.awaited import asked, heard
from stigmer_cli.runs.phases import OVER, seconds_between


class Status(Enum):
    """The states of a task."""

    UNSPECIFIED = "unknown"
    PENDING = "pending"
    IN_PROGRESS = "running"
    WAITING_FOR_APPROVAL = "waiting"
    """For a person."""
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Whether the task is over."""
        return self in {Status.COMPLETED, Status.FAILED, Status.SKIPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a run, or one turn of it in a loop."""

    id: str
    name: str
    kind: str
    status: Status
    input: Any
    output: Any
    error: dict[str, Any] | None
    """Problem details, with a `message` for people."""
    started_at: str
    completed_at: str
    parent: str
    """Id of the task it runs inside, "" at the top."""
    iteration: int | None
    """Which turn of the loop around it, from 0."""
    attempt: int
    taken_from: str = ""
    """Id of the earlier run that did it, where it is taken over."""
    execution: str = ""
    """Id of the run of a workflow or an agent that it started."""
    awaits: str = ""
    """What it waits for while it is not over: an answer, events, signals; in a few words."""

    @property
    def seconds(self) -> float | None:
        """How long it took, None while it is not over."""
        return seconds_between(self.started_at, self.completed_at)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "kind": self.kind,
            "status": self.status.name,
            "input": self.input,
            "output": self.output,
            "error": self.error,
            "started_at": self.started_at or None,
            "completed_at": self.completed_at or None,
            "id": self.id,
            "parent": self.parent or None,
            "iteration": self.iteration,
            "attempt": self.attempt,
            **({"taken_from": self.taken_from} if self.taken_from else {}),
            **({"execution": self.execution} if self.execution else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A run at one moment."""

    id: str
    phase: str
    """PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED, PAUSED or TERMINATED."""
    output: Any
    error: dict[str, Any] | None
    started_at: str
    completed_at: str
    tasks: tuple[Task, ...]
    is_cut: bool = False
    """Whether the output is only the beginnings of it; the server has it whole."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.phase in OVER

    @property
    def seconds(self) -> float | None:
        """How long it took, None while it is not over."""
        return seconds_between(self.started_at, self.completed_at)

    @property
    def waiting(self) -> tuple[Task, ...]:
        """The tasks that people must answer."""
        return tuple(task for task in self.tasks if task.status is Status.WAITING_FOR_APPROVAL)

    @property
    def summary(self) -> str:
        """Its tasks have told everything."""
        return ""

    @property
    def printed(self) -> str:
        """What the command prints as its result."""
        return console.to_json(self.output)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "phase": self.phase,
            "output": self.output,
            "error": self.error,
            "started_at": self.started_at or None,
            "completed_at": self.completed_at or None,
            "tasks": [task.to_dict() for task in self.tasks],
        }


def read_execution(message: Message) -> Execution:
    """Return what a WorkflowExecution says."""
    status = message.status
    return Execution(
        id=message.metadata.id,
        phase=_enum_name(status, "phase").removeprefix("EXECUTION_").removeprefix("PHASE_"),
        output=_value(status, "output"),
        error=_error(status),
        started_at=status.started_at,
        completed_at=status.completed_at,
        tasks=tuple(_read_task(task) for task in status.tasks),
        is_cut=status.HasField("large_output"),
    )


def _read_task(task: Message) -> Task:
    status = Status[_enum_name(task, "status").removeprefix("WORKFLOW_TASK_").removeprefix("STATUS_")]
    return Task(
        id=task.task_id,
        name=task.task_name,
        kind=task.kind,
        status=status,
        input=_value(task, "input"),
        output=_value(task, "output"),
        error=_error(task),
        started_at=task.started_at,
        completed_at=task.completed_at,
        parent=task.parent_id,
        iteration=task.iteration if task.HasField("iteration") else None,
        attempt=task.attempt or 1,
        taken_from=_told(task, "taken_from"),
        execution=_told(task, "execution"),
        awaits=_awaits(task, status),
    )


def _awaits(task: Message, status: Status) -> str:
    if status is Status.WAITING_FOR_APPROVAL:
        return asked(_value(task, "input"))
    if status is not Status.IN_PROGRESS or "listening" not in dict(task.metadata):
        return ""
    return heard(value_to_plain(task.metadata)["listening"])


def _told(task: Message, key: str) -> str:
    """Return a text of a task's metadata, "" where there is none."""
    found = dict(task.metadata).get(key, "")
    return found if isinstance(found, str) else ""


def _value(message: Message, name: str) -> Any:
    """Return the exact value; a sender of the contract's first edition fills the Struct alone."""
    if message.HasField(f"{name}_value"):
        return value_to_plain(getattr(message, f"{name}_value"))
    return value_to_plain(getattr(message, name)) if message.HasField(name) else None


def _error(message: Message) -> dict[str, Any] | None:
    details = value_to_plain(message.error_details) if message.HasField("error_details") else None
    if not message.error and not details:
        return None
    problem: dict[str, Any] = dict(details) if is_object(details) else {}
    problem.setdefault("message", message.error or str(problem.get("detail") or problem.get("title") or "failed"))
    return problem


def _enum_name(message: Message, field: str) -> str:
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    number = getattr(message, field)
    return values[number].name if number in values else "UNSPECIFIED"
