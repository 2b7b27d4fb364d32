"""What happens to an execution inside a transaction: every change of its phase, and what follows from one.

Every path that changes a phase comes through here: reports, controls, failed starts and the watch over runs. The
rules are `transitions`; what has to be done to the run goes into the outbox of the same transaction.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stigmer_server import checkpoints, event_listeners, lifecycle, outbox, schedules, values
from stigmer_server.checkpoints import Position
from stigmer_server.errors import InvalidError, RefusedError
from stigmer_server.messages import Message, to_plain
from stigmer_server.outbox import Action, Delivery, State
from stigmer_server.secrets import Sealer, UnsealError, key_of, redact
from stigmer_server.transitions import ENDED, Cause, Phase, Verdict, judge

if TYPE_CHECKING:
    from stigmer_server.kinds import Kind
    from stigmer_server.unit import Unit

PAUSE, RESUME, SIGNAL, ANSWER = "stigmer.pause", "stigmer.resume", "stigmer.signal", "stigmer.answer"
"""Names of the signals that runs of both kinds get. Each carries an object with an `id`, by which a run knows a
signal that it has had already."""
CALLER = "stigmer.ai/called-by"
"""Label of an execution that another one waits for: the id of that one."""
TOKEN = "callback token"  # noqa: S105 - the name of a place
"""The place for which the token of a callback is sealed, with the execution's id."""

_DEPTH_DIGITS = 9
_UNSEEN = frozenset({Cause.TERMINATE, Cause.LOST, Cause.EXPIRED})
"""Why an execution ends without its run seeing to it."""


def begin(unit: Unit, kind: Kind, message: Message) -> None:
    """Make a new execution pending, and put away the token of whoever waits for it."""
    _set_phase(kind, message.status, Phase.PENDING)
    message.status.temporal_workflow_id = run_id(kind, message)
    id, token = message.metadata.id, message.spec.callback_token
    if token:
        # The token lets whoever has it speak for a run: it is in no resource that anybody can read.
        message.spec.ClearField("callback_token")
        sealed = unit.sealer.seal(base64.b64encode(token).decode(), id=id, name=TOKEN)
        unit.outbox.post(
            Delivery(
                id=callback_id(id),
                kind=kind.name,
                execution=id,
                action=Action.COMPLETE,
                state=State.WAITING,
                payload={"token": sealed},
            )
        )
    await_start(unit, kind, id)


def await_start(unit: Unit, kind: Kind, id: str) -> None:
    """Have the run of a pending execution started; it belongs to the trace of the call, whoever starts it and when."""
    unit.outbox.touched.add((kind.name, id))
    if unit.outbox.trace:
        unit.outbox.post(Delivery(id=f"{id}/start", kind=kind.name, execution=id, action=Action.START))


def keep_token(message: Message) -> None:
    """Refuse a callback token that comes after the execution was made. Raises: InvalidError."""
    if message.spec.callback_token:
        raise InvalidError.of("spec.callback_token", "field.fixed", "is given when the execution is created, or never")


def opened_token(sealer: Sealer, delivery: Delivery) -> bytes:
    """Return the token of a callback. Raises: UnsealError."""
    return base64.b64decode(sealer.unseal(delivery.payload["token"], id=delivery.execution, name=TOKEN))


def reseal_token(wire: bytes, sealer: Sealer) -> bytes | None:
    """Return a stored callback with its token sealed by the first key; None: it is, or no key at hand opens it."""
    delivery = outbox.decoded(wire)
    if key_of(delivery.payload["token"]) == sealer.current:
        return None
    try:
        token = sealer.unseal(delivery.payload["token"], id=delivery.execution, name=TOKEN)
    except UnsealError:
        return None
    sealed = sealer.seal(token, id=delivery.execution, name=TOKEN)
    return outbox.encoded(replace(delivery, payload={**delivery.payload, "token": sealed}))


def callback_id(execution: str) -> str:
    """Return the id of the entry that tells whoever waits for an execution of its end."""
    return f"{execution}/callback"


def run_id(kind: Kind, message: Message) -> str:
    """Return the id of the Temporal workflow that runs the execution now."""
    return kind.run_id(message.metadata.id, message.status.recoveries)


def change(unit: Unit, kind: Kind, message: Message, cause: Cause, wanted: Phase, **why: str) -> Verdict:
    """Bring the execution into a phase, in place, if that may be; what follows from it is posted.

    Args:
        unit: The transaction; it is not told to store the execution.
        kind: Its kind.
        message: It.
        cause: Who wants it.
        wanted: The phase.
        why: `reason` and `error` of the new phase, for people; both may be left out.

    Raises:
        RefusedError: It cannot be, and the cause is somebody's wish.
    """
    verdict = _change(unit, kind, message, cause, wanted, **why)
    if verdict is Verdict.CHANGE and cause in _UNSEEN:
        _stop_called(unit, message)
    return verdict


def _change(unit: Unit, kind: Kind, message: Message, cause: Cause, wanted: Phase, **why: str) -> Verdict:
    """See `change`; this leaves alone what the execution waits for."""
    verdict = judge(cause, kind.phase_of(message.status), wanted)
    if verdict is Verdict.REFUSE:
        raise RefusedError(_refusal(kind, message, cause))
    if verdict is Verdict.CHANGE:
        message.status.error = why.get("error", "") or message.status.error
        _enter(unit, kind, message, wanted, why.get("reason", ""))
    return verdict


def depth_of(message: Message) -> int:
    """Return how many workflows stand above an execution, each of which ran the next one."""
    told = message.metadata.labels.get(schedules.DEPTH, "")
    return int(told[:_DEPTH_DIGITS]) if told.isascii() and told.isdigit() else 0


def _stop_called(unit: Unit, message: Message) -> None:
    """Terminate what the execution waited for, and what that did: a run that is gone sees to nothing any more.

    Labels are anybody's to write, so they may go round in circles, or lead back to the execution.
    """
    ended, callers = {message.metadata.id}, [message]
    while callers:
        caller = callers.pop()
        reason = f"{caller.metadata.id}, which called it, has ended without it"
        for kind, called in _called(unit, caller):
            if called.metadata.id in ended or kind.phase_of(called.status) in ENDED:
                continue
            _change(unit, kind, called, Cause.TERMINATE, Phase.TERMINATED, error=reason)
            stop_run(unit, kind, called, reason, at_once=True)
            unit.replace_status(kind, called)
            ended.add(called.metadata.id)
            callers.append(called)


def _called(unit: Unit, caller: Message) -> Iterator[tuple[Kind, Message]]:
    """Yield the executions that say that this one called them."""
    id, org = caller.metadata.id, caller.metadata.org
    for kind in unit.kinds.values():
        if kind.phases:
            for record in list(unit.records(kind.name, org=org, label=CALLER, value=id)):
                yield kind, unit.require(kind.name, record.id)


def _refusal(kind: Kind, message: Message, cause: Cause) -> str:
    if cause is Cause.RECOVER:
        name = kind.phase_name(message.status.phase)
        return f"{kind.title} {message.metadata.id} is {name}: only a failed execution can be recovered"
    return has_ended(kind, message, f"there is nothing left to {cause.value}")


def take_report(unit: Unit, kind: Kind, message: Message, report: Message) -> bool:
    """Merge what a runner reports into the execution, in place; False, and nothing done, when it is out of date.

    That is a report of a run before the latest recovery, and one that gives a finished execution another phase. A
    phase that cannot follow the present one is left out of a report that is merged otherwise.
    """
    status, phases = message.status, kind.phases
    if phases is None or _is_of_former_run(kind, message, report):
        return False
    now = kind.phase_of(status)
    wanted = kind.phase_of(report) if report.phase else now
    verdict = judge(Cause.REPORT, now, wanted)
    if verdict is Verdict.IGNORE and now in ENDED:
        return False
    before = _seen(unit, kind, message)
    if now is Phase.PENDING and wanted in ENDED and report.started_at and _is_workflow(kind):
        # A short run is over before anybody says that it is in progress. It has started all the same.
        lifecycle.phase_changed(unit, message, now, Phase.IN_PROGRESS)
    phases.merge_status(status, report)
    if _is_workflow(kind):
        lifecycle.tasks_changed(unit, message, before, [task.task_id for task in report.tasks])
    held = wanted is Phase.COMPLETED and verdict is Verdict.CHANGE and phases.holds(status)
    for name in ("error", "started_at", "completed_at"):
        value = "" if held and name == "completed_at" else getattr(report, name)
        kept = now in ENDED or (name == "started_at" and status.recoveries)
        if value and not (kept and getattr(status, name)):
            setattr(status, name, value)
    if verdict is Verdict.CHANGE and not held:
        _enter(unit, kind, message, wanted, report.status_reason)
    else:
        status.status_reason = report.status_reason or status.status_reason
        if now in ENDED:
            phases.close(status)
    return True


def _is_of_former_run(kind: Kind, message: Message, report: Message) -> bool:
    said, first = report.temporal_workflow_id, kind.run_id(message.metadata.id)
    return said.startswith(first) and said != run_id(kind, message)


def _enter(unit: Unit, kind: Kind, message: Message, phase: Phase, reason: str) -> None:
    status, before = message.status, kind.phase_of(message.status)
    _set_phase(kind, status, phase)
    status.status_reason = reason
    if phase in ENDED:
        status.completed_at = status.completed_at or _now()
        known = _seen(unit, kind, message)
        if kind.phases is not None:
            kind.phases.close(status)
        _ended(unit, message.metadata.id, phase, status.error or reason)
        if _is_workflow(kind):
            lifecycle.tasks_closed(unit, message, known, phase)
            schedules.ended(unit, message, phase, status.recoveries)
    elif phase is Phase.IN_PROGRESS:
        status.started_at = status.started_at or _now()
    if _is_workflow(kind):
        lifecycle.phase_changed(unit, message, before, phase)


def _seen(unit: Unit, kind: Kind, message: Message) -> Mapping[str, lifecycle.Seen]:
    return lifecycle.seen(unit, message) if _is_workflow(kind) else {}


def _is_workflow(kind: Kind) -> bool:
    return kind.name == "workflow_execution"


def _ended(unit: Unit, id: str, phase: Phase, reason: str) -> None:
    """Have whoever waits told, and drop what only a further run would need."""
    callback = unit.outbox.find(callback_id(id))
    if callback is not None and callback.state is State.WAITING:
        told = {**callback.payload, "phase": phase.value, "reason": reason}
        unit.outbox.post(replace(callback, state=State.DUE, payload=told))
    event_listeners.drop(unit.transaction, id)
    if phase is not Phase.FAILED:
        checkpoints.drop(unit, id)


def reopen(unit: Unit, kind: Kind, message: Message, reason: str, begin: Position | None) -> None:
    """Make a failed execution pending again, for a new run that begins at a position, or at the beginning.

    Raises:
        RefusedError: It has not failed.
    """
    change(unit, kind, message, Cause.RECOVER, Phase.PENDING, reason=reason)
    # The one before has ended or is about to. Were its runner lost just now, another would begin it all over again.
    stop_run(unit, kind, message, "a recovery has replaced it", at_once=True)
    status = message.status
    status.recoveries += 1
    status.temporal_workflow_id = run_id(kind, message)
    status.ClearField("error")
    status.ClearField("completed_at")
    if kind.phases is not None:
        kind.phases.reopen(status, begin)
    callback = unit.outbox.find(callback_id(message.metadata.id))
    if callback is not None and callback.state is State.DUE:
        # Nobody has heard of the failure yet, so whoever waits goes on waiting.
        waiting = replace(callback, state=State.WAITING, payload={"token": callback.payload["token"]})
        unit.outbox.post(waiting)
    await_start(unit, kind, message.metadata.id)


def abandon(unit: Unit, kind: Kind, message: Message) -> None:
    """See to the run of an execution that has just been deleted, and to whoever waits for it."""
    id, phase = message.metadata.id, kind.phase_of(message.status)
    if phase not in ENDED:
        stop_run(unit, kind, message, "the execution was deleted", at_once=False)
        _ended(unit, id, Phase.CANCELLED, "the execution was deleted")
    callback = unit.outbox.find(callback_id(id))
    if callback is not None and callback.state is State.DUE and phase is Phase.COMPLETED:
        redact(kind, message)
        unit.outbox.post(replace(callback, payload={**callback.payload, "execution": to_plain(message)}))
    for delivery in list(unit.outbox.of(id)):
        if delivery.action is Action.SIGNAL:
            unit.outbox.remove(delivery)
    checkpoints.drop(unit, id)
    values.drop(unit.transaction, id)


def stop_run(unit: Unit, kind: Kind, message: Message, reason: str, *, at_once: bool) -> None:
    """Have the run cancelled, or ended at once."""
    unit.outbox.post(
        Delivery(
            id=outbox.new_id(),
            kind=kind.name,
            execution=message.metadata.id,
            action=Action.TERMINATE if at_once else Action.CANCEL,
            run=run_id(kind, message),
            payload=reason,
        )
    )


def send(
    unit: Unit, kind: Kind, message: Message, name: str, content: dict[str, Any], once: Once | None = None
) -> None:
    """Have a signal delivered to the run, once that has begun; an `id` is added to its content."""
    unit.outbox.post(
        Delivery(
            id=once.id if once else outbox.new_id(),
            kind=kind.name,
            execution=message.metadata.id,
            action=Action.SIGNAL,
            run=run_id(kind, message),
            name=name,
            payload={"id": outbox.new_id(), **content},
            digest=once.digest if once else "",
            expires=time.time() + outbox.REMEMBERED_SECONDS if once else 0,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Something that is sent once, however often it is asked for."""

    id: str
    """Of its entry in the outbox."""
    digest: str
    """Of what is asked for."""

    def known(self, unit: Unit) -> Delivery | None:
        """Return what was sent by this id in the last 24 hours, if anything was."""
        found = unit.outbox.find(self.id)
        return found if found is not None and found.expires > time.time() else None


def has_ended(kind: Kind, message: Message, what: str) -> str:
    """Return the sentence that refuses something of an execution that has ended."""
    name = kind.phase_name(message.status.phase)
    return f"{kind.title} {message.metadata.id} is {name}: it has ended, and {what}"


def _set_phase(kind: Kind, status: Message, phase: Phase) -> None:
    status.phase = kind.phase_number(phase)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
