"""Stop an execution that has not ended."""

from __future__ import annotations

from stigmer_server.commands.update_status import merge
from stigmer_server.errors import RefusedError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit


async def stop(resources: Resources, kind: Kind, execution_id: str, *, reason: str, at_once: bool) -> bytes:
    """End the execution, and its run after it; what the run still reports changes nothing any more.

    Stopping what was stopped in the same way succeeds and changes nothing.

    Args:
        reason: Why, for people; kept with the execution.
        at_once: End the run without letting it clean up, and call the execution terminated instead of cancelled.

    Raises:
        MissingError: There is no such execution.
        RefusedError: It has ended in another way.
    """

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, execution_id)
        report = _report(kind, reason, at_once=at_once)
        if stored.status.phase == report.phase:
            return Saved(kind=kind, id=execution_id, wire=stored.SerializeToString())
        if not merge(kind, stored.status, report):
            msg = f"{kind.title} {execution_id} has ended already: {kind.phase_name(stored.status.phase)}"
            raise RefusedError(msg)
        (unit.killed if at_once else unit.stopped).append((kind, execution_id, reason))
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact_runs(work))


def _report(kind: Kind, reason: str, *, at_once: bool) -> Message:
    """Return the status that the execution gets: a reason to terminate is an error, one to cancel is none."""
    if kind.phases is None:
        msg = f"{kind.title} has no phases"
        raise TypeError(msg)
    report = kind.type().status
    report.phase = kind.phases.terminated if at_once else kind.phases.cancelled
    setattr(report, "error" if at_once else "status_reason", reason)
    return report
