"""Run a failed execution again from where it failed."""

from __future__ import annotations

from stigmer_server import checkpoints, executions
from stigmer_server.kinds import Kind
from stigmer_server.resources import Resources
from stigmer_server.transitions import Phase
from stigmer_server.unit import Saved, Unit


async def recover(
    resources: Resources, kind: Kind, execution_id: str, *, reason: str, from_task: str | None = None
) -> bytes:
    """Give a failed execution a new run, which keeps what was finished; error and end are cleared.

    Recovering an execution that a recovery has set going again succeeds and changes nothing.

    Args:
        resources: The resources, on behalf of the caller.
        kind: The kind of the execution.
        execution_id: Its id.
        reason: Why, for people; kept with the execution.
        from_task: Name or JSON pointer of the task to begin with, `/` for all of them, empty for the one that
            failed; None for a kind whose runners know by themselves.

    Raises:
        MissingError: There is no such execution.
        InvalidError: Several tasks have the name.
        RefusedError: It has not failed, or no run can begin with that task.
    """

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, execution_id)
        if stored.status.recoveries and not kind.is_finished(stored):
            return Saved(kind=kind, id=execution_id, wire=stored.SerializeToString())
        if kind.phase_of(stored.status) is not Phase.FAILED or from_task is None:
            begin = None
        elif not from_task and not stored.status.tasks:
            begin = checkpoints.choose(unit, execution_id, "/")
        else:
            begin = checkpoints.choose(unit, execution_id, from_task)
        executions.reopen(unit, kind, stored, reason, begin)
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact_runs(work))
