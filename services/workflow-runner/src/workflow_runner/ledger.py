"""Which events a run has heard, so that each counts for one listening task after another only once.

Events have places in one order, and are looked through in it. By pattern is kept up to where the run has looked, and
which events before that it did not want: a later task may. Workflow code; JSON, and bounded.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

MOST_OPEN = 128
"""How many events that nobody wanted are kept in mind for each pattern; older ones have had their time."""
_MOST_PATTERNS = 64


class Heard(TypedDict):
    """What was heard of one pattern."""

    cursor: int
    """The place up to which every event was looked at."""
    open: list[int]
    """The places before it of events that were not wanted yet."""


Ledger = dict[str, Heard]
"""By the pattern's key."""


def key_of(pattern: Mapping[str, str]) -> str:
    """Return what a pattern is called in a ledger."""
    return f"{pattern['type']} {pattern['source']}"


def copied(ledger: Ledger) -> Ledger:
    """Return a ledger of its own, with the same in it."""
    return {key: {"cursor": heard["cursor"], "open": [*heard["open"]]} for key, heard in ledger.items()}


def beginning(ledger: Ledger, keys: Iterable[str]) -> int:
    """Return the place after which there may be events of these patterns that count; 0: anywhere."""
    return min((_beginning(ledger[key]) if key in ledger else 0 for key in keys), default=0)


def _beginning(heard: Heard) -> int:
    return heard["open"][0] - 1 if heard["open"] else heard["cursor"]


def is_over(ledger: Ledger, event: Mapping[str, Any], place: int) -> bool:
    """Tell whether an event was taken already, or has had its time."""
    return any(
        place <= heard["cursor"] and place not in heard["open"] for key, heard in ledger.items() if _fits(key, event)
    )


def keys_of(keys: Iterable[str], event: Mapping[str, Any]) -> list[str]:
    """Return the patterns that an event is of."""
    return [key for key in keys if _fits(key, event)]


def note(ledger: Ledger, keys: Iterable[str], place: int, *, taken: bool) -> None:
    """Note that an event of these patterns was looked at."""
    for key in keys:
        heard = ledger.setdefault(key, {"cursor": 0, "open": []})
        if place > heard["cursor"]:
            heard["cursor"] = place
            if not taken:
                heard["open"].append(place)
                del heard["open"][:-MOST_OPEN]
        elif taken and place in heard["open"]:
            heard["open"].remove(place)
    while len(ledger) > _MOST_PATTERNS:
        del ledger[next(iter(ledger))]


def _fits(key: str, event: Mapping[str, Any]) -> bool:
    type_, _, source = key.partition(" ")
    found = str(event.get("type", ""))
    of_type = found.startswith(type_[:-1]) if type_.endswith("*") else type_ in ("", found)
    return of_type and source in ("", event.get("source"))
