"""YAML and JSON text with positions, built so that hostile text cannot hurt.

Owns reading text into plain values: every value's place, and the refusal of what YAML allows and the language does
not (duplicate keys, keys that are no text, tags, NaN, alias bombs, deep nesting). Knows nothing of the language.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from stigmer_dsl.errors import SourceError
from stigmer_dsl.problems import Position, Problem, pointer_parts, pointer_to

MAX_TEXT = 2 * 1024 * 1024
"""The longest text that is read, in characters."""
MAX_DEPTH = 100
"""The deepest nesting."""
MAX_NODES = 200_000
"""The most values in a text, each use of an alias counted as what it stands for."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_A_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CORE = "tag:yaml.org,2002:"


class _Node(NamedTuple):
    """Where a value stands, and where what is in it does."""

    position: Position
    size: int
    keys: "dict[str, Position] | None" = None
    inner: "dict[str, _Node] | list[_Node] | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDocument:
    """One document of a text: its plain value, and the place of everything in it."""

    name: str
    value: Any
    text: str = field(repr=False)
    _root: _Node = field(repr=False)

    def position(self, pointer: str, *, key: bool = False) -> Position:
        """Where the value at a JSON pointer stands; with `key`, where its key does.

        A pointer to nothing gives the place of the innermost value on its way.
        """
        node = self._root
        place = node.position
        for part in pointer_parts(pointer):
            if isinstance(node.inner, dict):
                child = node.inner.get(part)
            elif isinstance(node.inner, list):
                child = node.inner[int(part)] if part.isdecimal() and int(part) < len(node.inner) else None
            else:
                child = None
            if child is None:
                return node.position
            place = node.keys[part] if key and node.keys is not None else child.position
            node = child
        return place


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A text of one or several documents."""

    name: str
    documents: tuple[SourceDocument, ...]

    @classmethod
    def load(cls, text: str, *, name: str) -> "Source":
        """Read YAML 1.2 or JSON.

        Raises:
            SourceError: It is neither, or holds what this library refuses; every problem that could be found.
        """
        return cls(name=name, documents=tuple(_Builder(text, name).documents()))


class _StopError(Exception):
    """Reading cannot go on."""


class _Builder:
    """Turns the parser's events into values and places, counting as it goes."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._problems: list[Problem] = []
        self._anchors: dict[str, tuple[Any, _Node] | None] = {}
        self._budget = MAX_NODES
        self._path: list[str | int] = []
        self._events: Iterator[Any] = iter(())

    def documents(self) -> list[SourceDocument]:
        found: list[SourceDocument] = []
        try:
            if len(self._text) > MAX_TEXT:
                self._stop("yaml.limit", f"the text has more than {MAX_TEXT} characters", Position(1, 1))
            self._events = cast("Any", YAML(typ="safe", pure=True)).parse(self._text)
            for event in self._events:
                if isinstance(event, DocumentStartEvent):
                    self._anchors = {}
                    value, root = self._value(next(self._events))
                    found.append(SourceDocument(name=self._name, value=value, text=self._text, _root=root))
        except YAMLError as error:
            self._report_syntax(error)
        except _StopError:
            pass
        except (ValueError, OverflowError, AttributeError, IndexError, KeyError, TypeError, RecursionError) as error:
            # The parser fails in its own ways on some malformed texts; to its caller it is malformed text all the same.
            self._problem("yaml.syntax", f"the text is no YAML: {error}", Position(1, 1))
        if not found and not self._problems:
            self._problem("yaml.empty", "the text holds no document", Position(1, 1))
        if self._problems:
            raise SourceError(sorted(self._problems, key=lambda problem: problem.position or Position(0, 0)))
        return found

    def _value(self, event: Any) -> tuple[Any, _Node]:
        if len(self._path) > MAX_DEPTH:
            self._stop("yaml.limit", f"values are nested deeper than {MAX_DEPTH} levels", _start(event))
        self._spend(1, event)
        if isinstance(event, AliasEvent):
            return self._alias(event)
        anchor = cast("str | None", event.anchor)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, ScalarEvent):
            built = self._scalar(event), _Node(_start(event), 1)
        elif isinstance(event, SequenceStartEvent):
            built = self._sequence(event)
        else:
            built = self._mapping(event)
        if anchor is not None:
            self._anchors[anchor] = built
        return built

    def _spend(self, nodes: int, event: Any) -> None:
        self._budget -= nodes
        if self._budget < 0:
            self._stop("yaml.limit", f"the text stands for more than {MAX_NODES} values", _start(event))

    def _alias(self, event: Any) -> tuple[Any, _Node]:
        name = cast("str", event.anchor)
        if name not in self._anchors:
            self._problem("yaml.alias", f"no anchor is named {name!r}", _start(event))
            return None, _Node(_start(event), 1)
        built = self._anchors[name]
        if built is None:
            self._problem("yaml.alias", f"the value of anchor {name!r} contains itself", _start(event))
            return None, _Node(_start(event), 1)
        self._spend(built[1].size, event)
        return built

    def _sequence(self, event: Any) -> tuple[list[Any], _Node]:
        self._check_tag(event, "seq")
        values: list[Any] = []
        nodes: list[_Node] = []
        for inner in self._events:
            if isinstance(inner, SequenceEndEvent):
                break
            self._path.append(len(values))
            value, node = self._value(inner)
            self._path.pop()
            values.append(value)
            nodes.append(node)
        return values, _Node(_start(event), 1 + sum(node.size for node in nodes), None, nodes)

    def _mapping(self, event: Any) -> tuple[dict[str, Any], _Node]:
        self._check_tag(event, "map")
        values: dict[str, Any] = {}
        keys: dict[str, Position] = {}
        nodes: dict[str, _Node] = {}
        merged: list[tuple[Any, _Node]] = []
        for inner in self._events:
            if isinstance(inner, MappingEndEvent):
                break
            key = self._key(inner)
            self._path.append(key if key is not None else "")
            value, node = self._value(next(self._events))
            self._path.pop()
            if key == "<<" and _is_plain(inner):
                merged.append((value, node))
            elif key in values:
                first = keys[key]
                message = f"the key {key!r} stands here twice"
                self._problem("yaml.duplicate-key", message, _start(inner), f"first in line {first.line}", key)
            elif key is not None:
                values[key], keys[key], nodes[key] = value, _start(inner), node
        for value, node in merged:
            self._merge(value, node, values, keys, nodes)
        return values, _Node(_start(event), 1 + sum(node.size for node in nodes.values()), keys, nodes)

    def _merge(
        self, value: Any, node: _Node, values: dict[str, Any], keys: dict[str, Position], nodes: dict[str, _Node]
    ) -> None:
        """Add what `<<` refers to; keys of the mapping itself come first."""
        pairs = [(value, node)]
        if isinstance(node.inner, list):
            pairs = list(zip(cast("list[Any]", value), node.inner, strict=True))
        for part, place in pairs:
            if not isinstance(part, dict) or not isinstance(place.inner, dict) or place.keys is None:
                self._problem("yaml.alias", "`<<` must refer to an object or a list of objects", node.position)
                continue
            for key, item in cast("dict[str, Any]", part).items():
                if key not in values:
                    values[key], keys[key], nodes[key] = item, place.keys[key], place.inner[key]

    def _key(self, event: Any) -> str | None:
        """A mapping's key, or None for one that is refused; its events are consumed in any case."""
        if isinstance(event, ScalarEvent):
            self._spend(1, event)
            key = self._scalar(event)
            if isinstance(key, str):
                return key
            said = cast("str", event.value)
            self._problem("yaml.key", f"the key {said!r} is no text", _start(event), "put it in quotes")
            return None
        key, _ = self._value(event)
        if isinstance(key, str):
            return key
        self._problem("yaml.key", "a key must be a text, not a list or an object", _start(event))
        return None

    def _scalar(self, event: Any) -> Any:
        text = _joined(cast("str", event.value))
        if text is None:
            self._problem("yaml.text", "the text has half of a surrogate pair", _start(event))
            return ""
        tag = _tag(event)
        if tag is not None and tag not in ("!", f"{_CORE}str"):
            return self._tagged(tag, text, event)
        if tag is not None or not _is_plain(event):
            return text
        return self._plain(text, event)

    def _plain(self, text: str, event: Any) -> Any:
        """What YAML's core schema makes of an unquoted scalar."""
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _NOT_A_NUMBER.fullmatch(text):
            self._problem("yaml.number", f"{text} is no number that JSON knows", _start(event))
            return None
        if _INTEGER.fullmatch(text):
            return self._integer(text, event)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                self._problem("yaml.number", f"{text} is too large for a number", _start(event), "put it in quotes")
            return number
        return text

    def _integer(self, text: str, event: Any) -> int:
        if len(text) > 1000:
            self._problem("yaml.number", "the number has more than 1000 digits", _start(event), "put it in quotes")
            return 0
        return int(text, 0) if text.startswith("0") and text[1:2] in ("o", "x") else int(text)

    def _tagged(self, tag: str, text: str, event: Any) -> Any:
        kind = tag.removeprefix(_CORE)
        value = self._plain(text, event)
        expected = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}.get(kind)
        if expected is None:
            self._problem("yaml.tag", f"the tag {tag} is not allowed", _start(event), "leave it out")
        elif not isinstance(value, expected) or (kind != "bool" and isinstance(value, bool)):
            self._problem("yaml.tag", f"{text!r} is no {kind}", _start(event))
        return float(value) if kind == "float" and isinstance(value, int) else value

    def _check_tag(self, event: Any, expected: str) -> None:
        tag = _tag(event)
        if tag is not None and tag not in ("!", _CORE + expected):
            self._problem("yaml.tag", f"the tag {tag} is not allowed", _start(event), "leave it out")

    def _report_syntax(self, error: YAMLError) -> None:
        if isinstance(error, MarkedYAMLError):
            marked = cast("Any", error)  # the library is untyped
            mark = marked.problem_mark or marked.context_mark
            place = Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)
            message = str(marked.problem or marked.context or "it cannot be read")
            hint = "YAML indents with spaces, never with tabs" if "\\t" in message else ""
            self._problem("yaml.syntax", f"the text is no YAML: {message}", place, hint)
        elif isinstance(error, ReaderError):
            before = self._text[: cast("int", error.position)]
            place = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
            self._problem("yaml.syntax", "a control character stands in the text", place)
        else:
            self._problem("yaml.syntax", f"the text is no YAML: {error}", Position(1, 1))

    def _problem(self, code: str, message: str, position: Position, hint: str = "", key: str | None = None) -> None:
        path = self._path if key is None else [*self._path, key]
        self._problems.append(
            Problem(
                code=code, message=message, pointer=pointer_to(path), position=position, source=self._name, hint=hint
            )
        )
        if len(self._problems) >= 100:
            raise _StopError

    def _stop(self, code: str, message: str, position: Position) -> None:
        self._problem(code, message, position)
        raise _StopError


def _start(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _is_plain(event: Any) -> bool:
    return isinstance(event, ScalarEvent) and not cast("Any", event).style


def _tag(event: Any) -> str | None:
    tag = getattr(event, "tag", None)
    return None if tag is None else str(tag)


def _joined(text: str) -> str | None:
    r"""The text with surrogate pairs, which JSON writes as `\ud83d\ude00`, made one character; None for a half one."""
    if _SURROGATE.search(text) is None:
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None
