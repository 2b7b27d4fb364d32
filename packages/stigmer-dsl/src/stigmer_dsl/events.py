"""CloudEvents against the filters of the language: which events are meant, and how a workflow reads one.

Events are in their JSON form. A filter is prepared once, when listening begins, and is JSON from then on: it can be
stored and carried on. No clock, no I/O; expressions are evaluated by whoever asks.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from stigmer_dsl.errors import WorkflowError
from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model.events import EventFilter
from stigmer_dsl.schemas import matches_pattern

Event = Mapping[str, Any]
"""A CloudEvent in its JSON form."""
Evaluate = Callable[[Any], Any]
"""Returns a value of the document with its expressions evaluated where listening begins."""
EvaluateOn = Callable[[str, Any], Any]
"""Returns what an expression gives on other data than that; with or without `${ }`."""

_PLAIN = re.compile(r"[^\\*+?\[\](){}|^$]*")
"""A text that is meant as it is; a dot alone makes no regular expression."""
_LITERAL = re.compile(r"[^\\.*+?\[\](){}|^$]|\\[^A-Za-z0-9]")
"""One character, as a regular expression says it."""


def prepared(event_filter: EventFilter, evaluate: Evaluate) -> dict[str, Any]:
    """Return a filter with everything evaluated that does not depend on the event; JSON.

    Raises:
        ExpressionError: An expression fails.
    """
    attributes = event_filter.with_.attributes()
    made: dict[str, Any] = {"with": evaluate({name: item for name, item in attributes.items() if name != "data"})}
    if "data" in attributes:
        made["data"] = attributes["data"]
    if event_filter.correlate:
        made["correlate"] = {
            name: {"from": item.from_, **({} if item.expect is None else {"expect": evaluate(item.expect)})}
            for name, item in event_filter.correlate.items()
        }
    return made


def pattern(wanted: Mapping[str, Any]) -> dict[str, str]:
    """Return what an index can tell of a prepared filter: `type` and `source`, empty for any.

    A type that ends in `*` stands for all that begin so.
    """
    attributes = wanted["with"]
    found = {"type": _type_of(attributes.get("type")), "source": ""}
    source = attributes.get("source")
    if isinstance(source, str) and _PLAIN.fullmatch(source):
        found["source"] = source
    return found


def _type_of(wanted: Any) -> str:
    if not isinstance(wanted, str):
        return ""
    if _PLAIN.fullmatch(wanted):
        return wanted
    return _beginning(wanted) + "*" if _beginning(wanted) else ""


def _beginning(expression: str) -> str:
    """Return with what every text begins that a regular expression matches."""
    found, at = "", 0
    while "|" not in expression and (match := _LITERAL.match(expression, at)):
        if expression[match.end() : match.end() + 1] in ("*", "?", "{"):
            break  # it may be repeated, or be absent
        found, at = found + match[0][-1], match.end()
    return found


def matches(
    wanted: Mapping[str, Any], event: Event, known: Mapping[str, Any], evaluate_on: EvaluateOn
) -> dict[str, Any] | None:
    """Tell whether a prepared filter means an event; None: it does not.

    An expression that fails on an event does not mean it: whoever publishes must not be able to fail a run.

    Args:
        wanted: The filter.
        event: The event.
        known: Values of correlations that events before this one have fixed, by name.
        evaluate_on: Evaluates an expression on the data of the event, or on the event.

    Returns:
        `known`, with what this event fixes.
    """
    attributes: Mapping[str, Any] = wanted["with"]
    if not all(_is_attribute(attributes[name], event.get(name)) for name in attributes):
        return None
    try:
        if "data" in wanted and not _is_data(wanted["data"], read(event, "data"), evaluate_on):
            return None
        return _correlated(wanted.get("correlate", {}), event, known, evaluate_on)
    except WorkflowError:
        return None


def _correlated(
    rules: Mapping[str, Any], event: Event, known: Mapping[str, Any], evaluate_on: EvaluateOn
) -> dict[str, Any] | None:
    found = dict(known)
    for name, rule in rules.items():
        value = evaluate_on(rule["from"], event)
        if value is None:
            return None
        if "expect" in rule:
            if not _equal(rule["expect"], value):
                return None
        elif not _equal(found.setdefault(name, value), value):
            return None
    return found


def _is_attribute(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, bool):
        return wanted
    return value is not None and _is_text(text_of(wanted), text_of(value))


def _is_data(wanted: Any, data: Any, evaluate_on: EvaluateOn) -> bool:
    if isinstance(wanted, str) and is_expression(wanted):
        found = evaluate_on(wanted, data)
        return found if isinstance(found, bool) else _equal(found, data)
    if isinstance(wanted, dict) and isinstance(data, dict):
        held = cast("dict[str, Any]", data)
        members = cast("dict[str, Any]", wanted)
        return all(name in held and _is_data(item, held[name], evaluate_on) for name, item in members.items())
    if isinstance(wanted, str) and isinstance(data, str):
        return _is_text(wanted, data)
    return _equal(wanted, data)


def _is_text(wanted: str, value: str) -> bool:
    if wanted == value:
        return True
    if _PLAIN.fullmatch(wanted):
        return False
    try:
        re.compile(wanted)
        return matches_pattern(f"^(?:{wanted})$", value)
    except (re.error, RecursionError, OverflowError, WorkflowError):
        return False


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) and isinstance(other, (int, float)):
        # A constant of the document is a text, whatever it is compared with.
        return one == text_of(other)
    return one == other


def text_of(value: Any) -> str:
    """Return a value as the text that an attribute of an event is."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case _:
            return json.dumps(value, ensure_ascii=False)


def read(event: Event, form: str) -> Any:
    """Return an event as `read` says: its `data`, its `envelope`, or its data `raw`, as the text that was sent.

    Bytes are base64 text in each.
    """
    if form == "envelope":
        return dict(event)
    data = event.get("data", event.get("data_base64"))
    if form != "raw" or "data_base64" in event or (isinstance(data, str) and not _is_json(event)):
        return data
    return None if "data" not in event else json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _is_json(event: Event) -> bool:
    kind = str(event.get("datacontenttype", "application/json")).partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json"))
