"""Keep where a run of a workflow execution got to."""

from __future__ import annotations

from stigmer_server import checkpoints, executions, values
from stigmer_server.errors import RefusedError
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.transitions import ENDED, Phase
from stigmer_server.unit import Unit


async def save_checkpoint(resources: Resources, given: Message) -> None:
    """Keep a checkpoint of the execution's present run, so that a recovery can go on from it.

    Saving the same again is harmless.

    Raises:
        MissingError: There is no such execution.
        RefusedError: It has ended and cannot be recovered, has another run by now, or has no such value.
    """

    def work(unit: Unit) -> None:
        kind = unit.kinds["workflow_execution"]
        stored = unit.require(kind.name, given.execution_id)
        if kind.phase_of(stored.status) in ENDED - {Phase.FAILED}:
            raise RefusedError(executions.has_ended(kind, stored, "is never recovered"))
        if given.temporal_workflow_id != executions.run_id(kind, stored):
            msg = f"{given.temporal_workflow_id} is not the run of {kind.title} {given.execution_id} any more"
            raise RefusedError(msg)
        large = given.large_content.key
        if large and not values.has(unit.reader, given.execution_id, large):
            raise RefusedError(f"{kind.title} {given.execution_id} has no value {large}; put it first")
        checkpoints.save(unit, given)

    await resources.transact(work)
