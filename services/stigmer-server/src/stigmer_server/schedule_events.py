"""Starts executions for the events that schedules wait for, each combination once and in order.

A schedule looks through the events as a listening run does: after its place in their order, a few at a time. What it
takes, the executions that makes and its new place are one transaction; where there is nothing more, the same
transaction has it woken by the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.events import matches, pattern, read
from stigmer_dsl.expressions import evaluate_bare, evaluate_condition
from stigmer_sqlite.port import Change, Operation

from stigmer_server import change_feed, event_listeners, lifecycle, schedules
from stigmer_server.commands.receive_events import look
from stigmer_server.event_listeners import Pattern
from stigmer_server.resources import Resources
from stigmer_server.schedules import Schedule
from stigmer_server.unit import Unit

_DEPTH, _DEPTH_DIGITS = "stigmerdepth", 6
_MOST_GROUPS = 100
"""How many combinations may be incomplete at a time; the oldest is given up."""
_MOST_COLLECTED = 1000
"""How many events `any` collects at the most before its condition has to hold."""


async def hear(resources: Resources, workflow: str) -> None:
    """Take everything that there is for a schedule."""
    more = True
    while more:
        more = await resources.transact(lambda unit: _hear_some(unit, workflow))


def _hear_some(unit: Unit, workflow: str) -> bool:
    """Take a few events; tell whether there may be more."""
    schedule = schedules.find(unit.reader, workflow)
    if schedule is None or not schedule.is_active or schedule.plan.on is None:
        return False
    patterns = _patterns(schedule.plan.on)
    found = look(unit.reader, schedule.org, patterns, schedule.place)
    for json, place in found.events:
        event = orjson.loads(json)
        groups, complete = _taken(schedule, event)
        schedule = replace(schedule, place=place, groups=groups)
        if complete is not None:
            at = str(event.get("time", ""))
            schedule = schedules.start(
                unit, schedule, key=f"on/{place}", trigger="on", at=at, data=complete, depth=_depth(event) + 1
            )
    if found.events:
        schedules.save(unit, schedule)
    if found.waiting:
        id = schedules.id_of(workflow)
        event_listeners.arm(unit.transaction, schedule.org, id, "on", patterns, found.position, schedule=workflow)
    return not found.waiting


def _depth(event: Mapping[str, Any]) -> int:
    """Return how many runs started one another down to the one that published an event; anybody may write it there."""
    told = str(event.get(_DEPTH, ""))[:_DEPTH_DIGITS]
    return int(told) if told.isascii() and told.isdigit() else 0


def _patterns(on: Mapping[str, Any]) -> list[Pattern]:
    made = [pattern(item) for item in on["filters"]]
    return [Pattern(type=item["type"], source=item["source"]) for item in made]


def _taken(schedule: Schedule, event: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Return the combinations that are incomplete after an event, and what it has completed, if anything."""
    on = schedule.plan.on or {}
    if not on["filters"] and str(event["type"]).startswith(lifecycle.PREFIX):
        # A workflow that starts for everything must not start for its own starts.
        return schedule.groups, None
    value = read(event, schedule.plan.read)
    if on["strategy"] == "all":
        return _combined(on["filters"], schedule.groups, event, value)
    if on["filters"] and not any(_met(item, event, {}) is not None for item in on["filters"]):
        return schedule.groups, None
    if not on["until"]:
        return [], [value]
    collected: list[Any] = [*(schedule.groups[0]["heard"] if schedule.groups else []), value]
    if _holds(on["until"], collected) or len(collected) >= _MOST_COLLECTED:
        return [], collected
    return [{"heard": collected}], None


def _combined(
    filters: list[Any], groups: list[dict[str, Any]], event: dict[str, Any], value: Any
) -> tuple[list[dict[str, Any]], list[Any] | None]:
    fresh: dict[str, Any] = {"heard": {}, "known": {}}
    for at, group in enumerate([*groups, fresh]):
        for index, item in enumerate(filters):
            if str(index) in group["heard"] or (known := _met(item, event, group["known"])) is None:
                continue
            grown = {"heard": {**group["heard"], str(index): value}, "known": known}
            rest = [one for one in groups if one is not group]
            if len(grown["heard"]) == len(filters):
                return rest, [grown["heard"][str(number)] for number in range(len(filters))]
            return [*groups[:at], grown, *groups[at + 1 :]][-_MOST_GROUPS:], None
    return groups, None


def _met(item: Mapping[str, Any], event: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any] | None:
    return matches(item, event, known, evaluate_bare)


def _holds(condition: str, collected: list[Any]) -> bool:
    try:
        return evaluate_condition(condition, collected)
    except WorkflowError:
        return False


async def follow(resources: Resources) -> None:
    """Hear events for every schedule, as they and the schedules come, until the store closes."""

    async def begin() -> None:
        async for schedule in schedules.all_of(resources.store):
            await hear(resources, schedule.workflow)

    async def changed(change: Change) -> None:
        if change.operation is not Operation.DELETED:
            await hear(resources, change.id.removeprefix("schedule/"))

    await change_feed.follow(
        lambda: resources.store.watch(kinds=(schedules.SCHEMA.kind,)), begin, changed, what="what schedules wait for"
    )
