"""Hold an execution, and let it go on."""

from __future__ import annotations

from stigmer_server import executions
from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources
from stigmer_server.transitions import Cause, Phase, Verdict
from stigmer_server.unit import Saved, Unit


async def pause(resources: Resources, kind: Kind, execution_id: str, *, reason: str) -> bytes:
    """Hold the execution: its run stops at the next point from which it can go on, also if it has not begun yet.

    It is paused from now on, whenever the run hears of it; one that ends first ends as it does. Pausing what is
    paused succeeds and changes nothing.

    Raises:
        MissingError: There is no such execution.
        RefusedError: It has ended.
    """

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, execution_id)
        if executions.change(unit, kind, stored, Cause.PAUSE, Phase.PAUSED, reason=reason) is Verdict.SAME:
            return Saved(kind=kind, id=execution_id, wire=stored.SerializeToString())
        executions.send(unit, kind, stored, executions.PAUSE, {"reason": reason})
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact_runs(work))


async def resume(resources: Resources, kind: Kind, execution_id: str, *, reason: str) -> bytes:
    """Let a paused execution go on; one that is not paused already does, and nothing changes.

    Raises:
        MissingError: There is no such execution.
        RefusedError: It has ended.
    """

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, execution_id)
        phase = Phase.IN_PROGRESS if stored.status.started_at else Phase.PENDING
        if executions.change(unit, kind, stored, Cause.RESUME, phase, reason=reason) is Verdict.SAME:
            return Saved(kind=kind, id=execution_id, wire=stored.SerializeToString())
        executions.send(unit, kind, stored, executions.RESUME, {"reason": reason})
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact_runs(work))
