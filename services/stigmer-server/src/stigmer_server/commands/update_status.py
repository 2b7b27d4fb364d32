"""Take in what a runner reports about an execution."""

from __future__ import annotations

from stigmer_server import executions
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit


async def update_status(resources: Resources, kind: Kind, execution_id: str, report: Message) -> bytes:
    """Merge a report into the stored status, atomically, and return the execution; its spec is not touched.

    What the report leaves out stays. A finished execution stays finished: a report with another phase than
    its own is out of date and changes nothing, and so is one of a run that a recovery has replaced.

    Raises:
        MissingError: There is no such execution.
    """

    def work(unit: Unit) -> Saved:
        stored = unit.require_reported(kind, execution_id, report)
        if not executions.take_report(unit, kind, stored, report):
            return unit.as_stored(kind, stored)
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact(work))
