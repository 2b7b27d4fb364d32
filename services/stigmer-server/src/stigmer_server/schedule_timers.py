"""Keeps what Temporal knows of schedules in agreement with the database."""

from __future__ import annotations

import time

from loguru import logger
from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import Change, Operation

from stigmer_server import change_feed, schedules
from stigmer_server.engine.port import AwayError, RefusedByTemporalError, Runs, Timer
from stigmer_server.resources import Resources
from stigmer_server.schedules import Due, Schedule
from stigmer_server.unit import Unit


class ScheduleTimers:
    """See `Timers`. Every time Temporal is back it is told everything again: what it lost, and what it missed."""

    def __init__(self, resources: Resources, queue: str) -> None:
        self._resources = resources
        self._queue = queue
        self._told: dict[str, tuple[Timer, Due | None]] = {}

    async def keep(self, runs: Runs) -> None:
        """See `Timers`."""

        async def look() -> None:
            self._told.clear()
            async for schedule in schedules.all_of(self._resources.store):
                await self._tell(runs, schedule)

        async def hear(change: Change) -> None:
            if change.operation is not Operation.DELETED:
                await self._look_at(runs, change.id)

        await change_feed.follow(
            lambda: self._resources.store.watch(kinds=(schedules.SCHEMA.kind,)),
            look,
            hear,
            what="what Temporal knows of schedules",
            through=(AwayError,),
        )

    async def _look_at(self, runs: Runs, id: str) -> None:
        try:
            record = await self._resources.store.get(schedules.SCHEMA.kind, id)
        except NotFoundError:
            return
        await self._tell(runs, schedules.decoded(record.data))

    async def _tell(self, runs: Runs, schedule: Schedule) -> None:
        """Tell Temporal of a schedule, unless it knows."""
        wanted = (_timer(schedule), schedule.due)
        if self._told.get(schedule.workflow) == wanted and not schedule.gone:
            return
        try:
            await self._tell_anew(runs, schedule)
        except RefusedByTemporalError as error:
            logger.error("the schedule of workflow {} cannot be kept: {}", schedule.name, error)
            reason = str(error)
            await self._resources.transact(lambda unit: _note(unit, schedule.workflow, reason))
        if schedule.gone:
            self._told.pop(schedule.workflow, None)
        else:
            self._told[schedule.workflow] = wanted

    async def _tell_anew(self, runs: Runs, schedule: Schedule) -> None:
        timer, due = _timer(schedule), schedule.due
        if not schedule.gone and (timer.cron or timer.every):
            await runs.keep_timer(timer, self._queue)
        else:
            await runs.drop_timer(schedule.workflow)
        if due is not None:
            await runs.start_later(schedule.workflow, schedule.org, due.key, due.at - time.time(), self._queue)
        if schedule.gone:
            await self._resources.transact(lambda unit: _forget(unit, schedule.workflow))


def _timer(schedule: Schedule) -> Timer:
    return Timer(
        workflow=schedule.workflow,
        org=schedule.org,
        cron=schedule.plan.cron,
        every=schedule.plan.every,
        paused=schedule.paused,
        reason=schedule.reason,
    )


def _note(unit: Unit, workflow: str, error: str) -> None:
    known = schedules.find(unit.reader, workflow)
    if known is not None and known.error != error:
        schedules.note_error(unit, known, error)


def _forget(unit: Unit, workflow: str) -> None:
    """Remove what is left of a schedule, unless there is one again."""
    known = schedules.find(unit.reader, workflow)
    if known is not None and known.gone:
        unit.transaction.delete(schedules.SCHEMA.kind, schedules.id_of(workflow))
