"""What a task in progress waits for, in a few words: a person's answer, events, or signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stigmer_cli.plain import is_list, is_object

_JOINED = {"one": "", "any": " or ", "all": " and "}


def asked(question: Any) -> str:
    """Return what a task asks a person, what may be answered, by whom and until when."""
    if not is_object(question):
        return "an answer"
    said = " ".join(str(question.get("message") or "an answer").split())
    offered = ", ".join(map(str, question.get("outcomes") or ()))
    who = ", ".join(map(str, question.get("assignees") or ()))
    until = str(question.get("deadline") or "")
    parts = (said, offered and f"({offered})", who and f"from {who}", until and f"until {until}")
    return " ".join(part for part in parts if part)


def heard(listening: Any) -> str:
    """Return which events and signals a task listens for, as its metadata tell; "" where they do not."""
    if not is_object(listening):
        return ""
    strategy = next((each for each in _JOINED if each in listening), None)
    if strategy is None:
        return ""
    until = listening.get("until")
    ending = f", until {_joined(until, ' or ')}" if is_list(until) and until else ""
    return (_joined(listening[strategy], _JOINED[strategy]) or "any event") + ending


def _joined(filters: Sequence[Any], word: str) -> str:
    return word.join(_filter(each) for each in filters if is_object(each))


def _filter(wanted: Mapping[str, Any]) -> str:
    attributes: Any = wanted.get("with")
    if not is_object(attributes):
        return "an event"
    if attributes.get("type") == "signal":
        return f"the signal {attributes.get('id')}"
    more = [f"{name} {value}" for name, value in attributes.items() if name != "type"]
    kind = f"an event {attributes['type']}" if "type" in attributes else "an event"
    return f"{kind} ({', '.join(more)})" if more else kind
