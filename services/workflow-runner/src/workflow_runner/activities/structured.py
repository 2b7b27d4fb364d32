"""Reading JSON and YAML of any origin into plain values. Large texts are read by C; hostile ones cannot hurt.

YAML is read by its core schema, as JSON would be: dates and words such as `on` are texts. What an alias stands
for is counted with each use, and the depth is bounded before anything is built.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, cast

import yaml

MOST_DEPTH = 200
MOST_VALUES = 2_000_000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER = re.compile(r"[-+]?[0-9]{1,1000}", re.ASCII)
_EXPONENT = re.compile(r"[0-9][eE]\+?[0-9]{3}|[0-9]{309}")
_EXPONENT_BYTES = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{309}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text, which may hold nothing but JSON.

    Raises:
        ValueError: It is none, or nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_float if _may_be_large(text) else None)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read(text: str) -> Any:
    """Return the value of a JSON or YAML text.

    Raises:
        ValueError: It is neither, or has no bounds.
    """
    if text.lstrip()[:1] in ("{", "["):
        try:
            found = read_json(text)
        except ValueError:
            pass  # YAML may begin like this too, and then says better what is wrong
        else:
            check_depth(found)
            return found
    try:
        return _Builder(cast("Any", yaml).parse(text, Loader=yaml.CSafeLoader)).build()  # untyped
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _may_be_large(text: str | bytes) -> bool:
    """Whether a number of the text may be beyond all bounds; looking at each takes time."""
    pattern = _EXPONENT if isinstance(text, str) else _EXPONENT_BYTES
    return pattern.search(cast("Any", text)) is not None


def _float(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise ValueError(f"{text} is too large for a number")
    return found


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def check_depth(value: Any) -> None:
    """Raises: ValueError: A value is nested too deep."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [item for inner in level if isinstance(inner, (dict, list)) for item in _inside(inner)]  # pyright: ignore[reportUnknownArgumentType] - JSON
        if not level:
            return
    raise ValueError("it is nested too deep")


def _inside(value: "dict[str, Any] | list[Any]") -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


class _Builder:
    """Builds the value of a stream of events, which comes without recursion."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def build(self) -> Any:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                return self._value(next(self._events), 0)
        raise ValueError("it is empty")

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor))
        if depth > MOST_DEPTH:
            raise ValueError("it is nested too deep")
        before = self._values
        self._count(1)
        if isinstance(event, yaml.ScalarEvent):
            made: Any = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            made = [self._value(each, depth + 1) for each in self._until(yaml.SequenceEndEvent)]
        else:
            made = {}
            for each in self._until(yaml.MappingEndEvent):
                key = self._value(each, depth + 1)
                made[_key(key)] = self._value(next(self._events), depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (made, self._values - before)
        return made

    def _alias(self, anchor: str) -> Any:
        if anchor not in self._anchors:
            raise ValueError(f"*{anchor} stands for nothing that is complete before it")
        value, size = self._anchors[anchor]
        self._count(size)
        return value

    def _count(self, more: int) -> None:
        self._values += more
        if self._values > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES} values")

    def _until(self, end: type[Any]) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event


def _scalar(event: Any) -> Any:
    """Return what a scalar means; only one without quotes may be more than a text."""
    text = cast("str", event.value)
    if not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _key(key: Any) -> str:
    """Return a key as JSON has it: status codes are written as numbers."""
    if isinstance(key, str):
        return key
    if isinstance(key, (dict, list)):
        raise ValueError("a key is an object or a list")
    return json.dumps(key)
