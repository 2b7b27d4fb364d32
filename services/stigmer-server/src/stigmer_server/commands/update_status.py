"""Take in what a runner reports about an execution."""

from __future__ import annotations

from datetime import UTC, datetime

from stigmer_server.kinds import Kind
from stigmer_server.kinds.port import Phases
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit


async def update_status(resources: Resources, kind: Kind, execution_id: str, report: Message) -> bytes:
    """Merge a report into the stored status, atomically, and return the execution; its spec is not touched.

    What the report leaves out stays. A finished execution stays finished: a report with another phase than
    its own is out of date and changes nothing.

    Raises:
        MissingError: There is no such execution.
    """

    def work(unit: Unit) -> Saved:
        stored = unit.require_reported(kind, execution_id, report)
        if not merge(kind, stored.status, report):
            return unit.as_stored(kind, stored)
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact(work))


async def fail(resources: Resources, kind: Kind, execution_id: str, reason: str) -> None:
    """End an execution that could not be started, unless it has got further by itself. Raises: MissingError."""
    phases = _phases(kind)
    report = kind.type().status
    report.phase = phases.failed
    report.error = reason

    def work(unit: Unit) -> None:
        stored = unit.require(kind.name, execution_id)
        if stored.status.phase == phases.pending and merge(kind, stored.status, report):
            unit.replace_status(kind, stored)

    await resources.transact(work)


def merge(kind: Kind, status: Message, report: Message) -> bool:
    """Merge a report into a status in place; False, and nothing done, when the report is out of date."""
    phases = _phases(kind)
    finished = status.phase in phases.terminal
    if finished and report.phase not in (0, status.phase):
        return False
    phases.merge_status(status, report)
    status.phase = report.phase or status.phase
    for name in ("error", "status_reason", "started_at", "completed_at"):
        if value := getattr(report, name):
            setattr(status, name, value)
    if status.phase in phases.terminal and not finished:
        status.completed_at = status.completed_at or _now()
        phases.close(status)
    elif status.phase == phases.in_progress:
        status.started_at = status.started_at or _now()
    return True


def _phases(kind: Kind) -> Phases:
    if kind.phases is None:
        msg = f"{kind.title} has no phases"
        raise TypeError(msg)
    return kind.phases


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
