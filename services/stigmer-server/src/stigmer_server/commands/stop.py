"""Stop an execution that has not ended."""

from __future__ import annotations

from stigmer_server import executions
from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources
from stigmer_server.transitions import Cause, Phase, Verdict
from stigmer_server.unit import Saved, Unit


async def stop(resources: Resources, kind: Kind, execution_id: str, *, reason: str, at_once: bool) -> bytes:
    """End the execution, and its run after it; its phase changes no more, whatever becomes of the run.

    Stopping what was stopped in the same way succeeds and changes nothing.

    Args:
        resources: The resources, on behalf of the caller.
        kind: The kind of the execution.
        execution_id: Its id.
        reason: Why, for people; kept with the execution.
        at_once: End the run without letting it clean up, and call the execution terminated instead of cancelled.

    Raises:
        MissingError: There is no such execution.
        RefusedError: It has ended in another way.
    """
    cause, phase = (Cause.TERMINATE, Phase.TERMINATED) if at_once else (Cause.CANCEL, Phase.CANCELLED)
    # A reason to terminate is an error, one to cancel is none.
    why = {"error" if at_once else "reason": reason}

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, execution_id)
        if executions.change(unit, kind, stored, cause, phase, **why) is Verdict.SAME:
            return Saved(kind=kind, id=execution_id, wire=stored.SerializeToString())
        executions.stop_run(unit, kind, stored, reason, at_once=at_once)
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact_runs(work))
