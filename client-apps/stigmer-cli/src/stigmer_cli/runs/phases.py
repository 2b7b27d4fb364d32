"""The phases of a run, and times in it."""

from __future__ import annotations

from datetime import datetime

OVER = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TERMINATED"})
"""The phases that nothing comes after, but a recovery."""


def seconds_between(started_at: str, completed_at: str) -> float | None:
    """Return the time between two moments of RFC 3339, None when one of them has not come."""
    if not started_at or not completed_at:
        return None
    return (datetime.fromisoformat(completed_at) - datetime.fromisoformat(started_at)).total_seconds()


def duration(seconds: float | None) -> str:
    """Return a length of time in the unit that fits it; "" for none."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
