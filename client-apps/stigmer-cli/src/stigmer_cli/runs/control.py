"""Controlling runs of workflows and agents: stopping, holding, going on, answering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli import kinds, references
from stigmer_cli.errors import ConflictError, InvalidInputError
from stigmer_cli.listing import phase_of
from stigmer_cli.messages import to_plain
from stigmer_cli.references import Reference
from stigmer_cli.resources import Message, Resources
from stigmer_cli.runs.phases import OVER

_KINDS = ("workflow_execution", "agent_execution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a call did to a run."""

    kind: Kind
    before: Message
    after: Message

    @property
    def id(self) -> str:
        """The run's id."""
        return self.after.metadata.id

    @property
    def phase(self) -> str:
        """The phase it is in now, such as CANCELLED."""
        return phase(self.after)

    @property
    def reason(self) -> str:
        """Why it is in its phase."""
        return self.after.status.status_reason

    @property
    def changed(self) -> bool:
        """Whether the call changed anything; one that found the run where it should be did not."""
        return phase(self.before) != self.phase


Call = Callable[["Controls", Reference, Message], Awaitable[Message]]
"""Does something to a run that was just read, and returns it as it is then."""


class Controls:
    """The calls that control a run, whichever kind it is."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    async def apply(self, reference: Reference, call: Call) -> Outcome:
        """Read a run, do something to it, and return both of its states."""
        before = await self.resources.get(reference)
        return Outcome(kind=reference.kind, before=before, after=await call(self, reference, before))

    async def call(self, reference: Reference, method: str, request: Mapping[str, Any]) -> Message:
        """Call a method of the kind's control service."""
        service = next(name for name in reference.kind.services if name.endswith("ControlController"))
        if method not in descriptors.pool().FindServiceByName(service).methods_by_name:
            msg = f"a run of kind {reference.kind.enum_name} knows no {method}"
            raise InvalidInputError(msg, hint="that is for runs of workflows, whose ids begin with wex-")
        return await self.resources.channel.service(service).unary(method, dict(request))


def phase(message: Message) -> str:
    """Return the phase of a run, such as IN_PROGRESS."""
    return phase_of(to_plain(message))


def told_stopped(outcome: Outcome, aim: str) -> str:
    """Return what became of a run that was to be brought to a phase and stay there."""
    if outcome.phase == aim:
        told = f"is {_word(aim)}" if outcome.changed else f"was {_word(aim)} already"
    elif outcome.phase in OVER:
        told = f"{_word(outcome.phase)} before that"
    else:
        told = f"is asked to be {_word(aim)}; it is {_word(outcome.phase)}"
    return f"{told} ({outcome.reason})" if outcome.reason else told


def told_going_on(outcome: Outcome, done: str) -> str:
    """Return what became of a run that was to go on."""
    if outcome.phase in OVER:
        error = outcome.after.status.error.split("\n")[0]
        return f"is {_word(outcome.phase)}: {error}" if error else f"is {_word(outcome.phase)}"
    return f"{done}; it is {_word(outcome.phase)}" if outcome.changed else f"is {_word(outcome.phase)} already"


def _word(name: str) -> str:
    return name.lower().replace("_", " ")


def parse_run(text: str) -> Reference:
    """Read the id of a run, or kind/id as `-o name` prints it.

    Raises:
        InvalidInputError: It is none.
    """
    identifier = text.rpartition("/")[2]
    kind = references.kind_of_id(identifier)
    if kind is None or kind.enum_name not in _KINDS:
        msg = f"{text!r} is not the id of a run"
        raise InvalidInputError(msg, hint="`stigmer get runs` lists them")
    return Reference(kind=kind, id=identifier)


def waiting_task(execution: Message, named: str) -> str:
    """Return the name of the task of a workflow's run, or the id of the tool call of an agent's, that waits.

    Args:
        execution: The run.
        named: What the person named, which is then taken; "" for the only one that waits.

    Raises:
        ConflictError: Nothing waits.
        InvalidInputError: Several wait, and none was named.
    """
    if named:
        return named
    status = execution.status
    if kinds.require(execution.kind).enum_name == "workflow_execution":
        waiting = [task.task_name for task in status.tasks if _is(task, "WORKFLOW_TASK_WAITING_FOR_APPROVAL")]
    else:
        calls = [*status.tool_calls, *(call for message in status.messages for call in message.tool_calls)]
        waiting = [call.id for call in calls if _is(call, "TOOL_CALL_WAITING_APPROVAL")]
    if not waiting:
        msg = f"nothing in {execution.metadata.id} waits for an answer; it is {_word(phase(execution))}"
        raise ConflictError(msg, hint=f"`stigmer describe {execution.metadata.id}` shows how far it is")
    if len(set(waiting)) > 1:
        msg = f"{len(set(waiting))} things in {execution.metadata.id} wait for an answer"
        raise InvalidInputError(msg, hint=f"say which: {', '.join(sorted(set(waiting)))}")
    return waiting[0]


def _is(message: Message, name: str) -> bool:
    values: Any = message.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number
    return message.status in values and values[message.status].name == name


def parse_runs(texts: Sequence[str]) -> list[Reference]:
    """Read the ids of runs, each once. Raises: InvalidInputError."""
    return list({reference.id: reference for reference in map(parse_run, texts)}.values())
