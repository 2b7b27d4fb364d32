"""What the definition of a workflow says of when it starts, read once.

Imported at first use, because the language takes its time to load.
"""

from __future__ import annotations

from typing import Any

from stigmer_dsl import durations
from stigmer_dsl.errors import DurationError, WorkflowError
from stigmer_dsl.events import prepared
from stigmer_dsl.expressions import evaluate
from stigmer_dsl.model import Duration, DurationLike
from stigmer_dsl.model.events import EventConsumption
from stigmer_dsl.model.workflow import Schedule as Declared

from stigmer_server.errors import InvalidError
from stigmer_server.schedules import Plan

_FIELD = "spec.definition"
_SIGNAL = "signal"
_SHORTEST_SECONDS = 1.0


def plan_of(declared: Declared | None) -> Plan | None:
    """Return what a valid definition says; None: nothing. Raises: InvalidError for what cannot be done."""
    if declared is None:
        return None
    return Plan(
        cron=declared.cron or "",
        every=_seconds(declared.every, "every", _SHORTEST_SECONDS),
        after=_seconds(declared.after, "after", 0.001),
        on=None if declared.on is None else _events(declared.on),
        read=declared.read or "data",
        triggers=tuple(_told(declared)),
    )


def _seconds(value: DurationLike | None, name: str, least: float) -> float:
    if value is None:
        return 0
    try:
        seconds = durations.parse(value.to_dict() if isinstance(value, Duration) else value).total_seconds()
    except DurationError as error:
        raise _invalid(name, f"is no duration that is known before a run: {error}") from error
    if seconds < least:
        raise _invalid(name, f"is {seconds:g} s, and {least:g} s is the least")
    return seconds


def _events(consumption: EventConsumption) -> dict[str, Any]:
    until = consumption.until
    if isinstance(until, EventConsumption):
        raise _invalid("on/until", "is a condition here; events end listening in a `listen` task only")
    if any(item.with_.type == _SIGNAL for item in consumption.filters):
        raise _invalid("on", "names signals, which are sent to executions; there is none yet")
    try:
        filters = [prepared(item, lambda value: evaluate(value, None)) for item in consumption.filters]
    except WorkflowError as error:
        raise _invalid("on", f"has an expression that gives nothing before a run: {error}") from error
    if consumption.strategy == "all" and not filters:
        raise _invalid("on/all", "is empty, so that nothing would ever start")
    return {"strategy": consumption.strategy, "filters": filters, "until": until or ""}


def _told(declared: Declared) -> list[str]:
    found = [f"cron {declared.cron}"] if declared.cron else []
    for name in ("every", "after"):
        value: DurationLike | None = getattr(declared, name)
        if value is not None:
            length = durations.parse(value.to_dict() if isinstance(value, Duration) else value)
            found.append(f"{name} {durations.to_text(length)}")
    if declared.on is not None:
        types = [str(item.with_.type or "any event") for item in declared.on.filters] or ["any event"]
        found.append(f"on {declared.on.strategy} of {', '.join(types)}")
    return found


def _invalid(place: str, problem: str) -> InvalidError:
    return InvalidError.of(_FIELD, "schedule", f"/schedule/{place} {problem}")
