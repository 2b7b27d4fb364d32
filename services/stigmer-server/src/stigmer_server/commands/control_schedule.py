"""Pause a schedule, let it go on, and start what it starts: now, or at a moment that has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from stigmer_server import naming, schedules
from stigmer_server.errors import RefusedError
from stigmer_server.resources import Resources
from stigmer_server.schedules import Schedule
from stigmer_server.unit import Unit


async def pause(resources: Resources, workflow: str, reason: str) -> Schedule:
    """Have a schedule start nothing until it is resumed, and return it. Raises: MissingError."""

    def change(unit: Unit, known: Schedule) -> Schedule:
        del unit
        return replace(known, paused=True, reason=reason, due=None)

    return await _changed(resources, workflow, change)


async def resume(resources: Resources, workflow: str) -> Schedule:
    """Let a schedule go on with what comes from now on, and return it. Raises: MissingError."""

    def change(unit: Unit, known: Schedule) -> Schedule:
        if not known.paused:
            return known
        return replace(known, paused=False, reason="", place=schedules.newest(unit.reader, known.org), groups=[])

    return await _changed(resources, workflow, change)


async def trigger(resources: Resources, workflow: str) -> str:
    """Start an execution now and return its id.

    Raises:
        MissingError: The workflow has no schedule.
        RefusedError: The execution cannot be made.
    """

    def work(unit: Unit) -> Schedule:
        known = schedules.require(unit.reader, workflow)
        return schedules.start(unit, known, key=f"manual/{naming.new_ulid()}", trigger="manual", at=_now(unit))

    made = await resources.transact_runs(work)
    if made.error:
        raise RefusedError(f"no execution could be made: {made.error}")
    return made.last_execution


async def fire(resources: Resources, workflow: str, key: str, at: str) -> str:
    """Start the execution of a moment, once, and return its id; empty when the moment counts no more.

    Raises:
        MissingError: The workflow has no schedule.
        RefusedError: The execution cannot be made; the schedule says why.
    """

    def work(unit: Unit) -> Schedule | None:
        known = schedules.require(unit.reader, workflow)
        if known.paused:
            return None
        if key.startswith("after/"):
            if known.due is None or known.due.key != key:
                # Made already, or superseded by the end of another execution.
                id = schedules.execution_id(workflow, key)
                return replace(known, last_execution=id) if unit.is_taken("workflow_execution", id) else None
            moment = datetime.fromtimestamp(known.due.at, UTC).isoformat(timespec="milliseconds")
            return schedules.start(unit, replace(known, due=None), key=key, trigger="after", at=moment)
        kind = "cron" if known.plan.cron else "every"
        return schedules.start(unit, known, key=key, trigger=kind, at=at or _now(unit))

    made = await resources.transact_runs(work)
    if made is not None and made.error:
        raise RefusedError(f"no execution could be made: {made.error}")
    return "" if made is None else made.last_execution


async def _changed(resources: Resources, workflow: str, change: Callable[[Unit, Schedule], Schedule]) -> Schedule:
    def work(unit: Unit) -> Schedule:
        known = schedules.require(unit.reader, workflow)
        made = change(unit, known)
        return known if made == known else schedules.save(unit, made)

    return await resources.transact(work)


def _now(unit: Unit) -> str:
    return str(unit.now.ToJsonString())
