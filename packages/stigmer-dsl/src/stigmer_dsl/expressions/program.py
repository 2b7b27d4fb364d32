"""One expression, ready to be evaluated.

Owns running jq: in this process where the work is bounded by the size of the data, else in the guarded one. Values go
in and out as JSON text, so that whole numbers of any size pass through unchanged.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import jq

from stigmer_dsl.errors import ExpressionError, SecretAccessError
from stigmer_dsl.expressions import guard
from stigmer_dsl.expressions.analysis import Analysis, RefusedError, analyse, unknown_variables
from stigmer_dsl.expressions.numbers import (
    InexactError,
    decode_exactly,
    has_long_number,
    large_numbers,
    replace_numbers,
)
from stigmer_dsl.secrets import PLACEHOLDER, Secrets

ARGUMENTS = frozenset({"context", "input", "output", "task", "workflow", "runtime", "authorization"})
"""The variables that every expression may use, besides `$secrets`; null where they have no value."""

_WRAPPED = re.compile(r"\s*\$\{(.*)\}\s*", re.DOTALL)
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_SHOWN = 200
MOST_DEPTH = 200
"""How deep the result of an expression may be nested: what is written out and read again has bounds of its own."""
_PLACE = re.compile(r" at <top-level>, line (\d+), column (\d+):?")


def is_expression(value: object) -> bool:
    """Whether a value is a text of the form `${ … }`."""
    return isinstance(value, str) and _WRAPPED.fullmatch(value) is not None


def bare_text(text: str) -> str:
    """The expression in a text: what `${ … }` holds, or the text itself."""
    found = _WRAPPED.fullmatch(text)
    return (found[1] if found else text).strip()


class Expression:
    """A jq expression that was read and may be evaluated any number of times, on any thread."""

    __slots__ = ("_code", "_compiles", "_inline", "analysis", "program", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        """The expression without `${ }`."""
        # Inside a text of the expression, a placeholder is an interpolation of the secret.
        code = self._code = PLACEHOLDER.sub(r'\\($secrets["\1"])', text)
        self.analysis: Analysis = analyse(code)
        names = ["__input", *sorted(self.analysis.variables)]
        if self.analysis.secrets:
            names.append("secrets")
        self.program = f". as [{','.join('$' + name for name in names)}]|$__input|(\n{code}\n)|tojson"
        self._inline: Any = None
        self._compiles: bool | None = None

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @property
    def variables(self) -> frozenset[str]:
        """The variables it takes from outside, `$secrets` left out."""
        return frozenset(self.analysis.variables)

    @property
    def secrets(self) -> frozenset[str]:
        """The secrets it names."""
        return frozenset(self.analysis.secrets)

    @property
    def compiles(self) -> bool:
        """Whether jq accepts the expression; asked once."""
        if self._compiles is None:
            self._compiles = self.check() is None
        return self._compiles

    def check(self) -> str | None:
        """What jq says is wrong with the expression; None if it compiles."""
        if self.analysis.path is not None:
            return None
        if self.analysis.bounded:
            try:
                self._compile()
            except ValueError as error:
                return _reason(error, self._code)
            return None
        try:
            kind, text = guard.evaluate(self.program, "")
        except guard.GuardError as error:
            return f"it cannot be compiled: {error}"
        return _reason(text, self._code) if kind == b"e" else None

    def evaluate(self, input: Any, variables: Mapping[str, Any], secrets: Secrets | None = None) -> Any:  # noqa: A002 - jq's word
        """The first result on an input; null if there is none.

        The result may share parts with the input; neither is changed.

        Raises:
            ExpressionError: It failed, or passed the limits of the guard.
            SecretAccessError: It names a secret that `secrets` does not.
        """
        path = self.analysis.path
        if path is not None:
            root = self.analysis.root
            return self._follow(path, self._variable(root, variables) if root else input)
        parts = self._parts(input, variables, secrets)
        document = self._text(parts)
        result = self._run(document, input)
        if has_long_number(document):
            self._refuse_rounding(parts, result, input)
        return result

    def _refuse_rounding(self, parts: list[Any], result: Any, input: Any) -> None:  # noqa: A002 - jq's word
        """Refuse a result that depends on the value of a large number, which jq rounds to calculate with it."""
        large = {number: other for number, other in large_numbers(parts).items() if str(abs(number)) not in self.text}
        if not large:
            return
        changed = self._run(self._text(replace_numbers(parts, large)), input)
        if changed != replace_numbers(result, large):
            reason = "it calculates with a number that jq does not count exactly (beyond 2^53)"
            raise ExpressionError(self.text, reason, on=shorten(input))

    def _text(self, parts: list[Any]) -> str:
        try:
            return _ENCODER.encode(parts)
        except (TypeError, ValueError, RecursionError) as error:
            raise ExpressionError(self.text, f"the data is no JSON: {error}") from None

    def _run(self, document: str, input: Any) -> Any:  # noqa: A002 - jq's word
        """The first result on the JSON text of what jq is handed."""
        try:
            if self.analysis.fits(len(document) + len(self._code)):
                text = self._compile().input_text(document).first()
            else:
                text = self._guarded(document)
        except StopIteration:
            return None
        except ValueError as error:
            raise ExpressionError(self.text, _reason(error, self._code), on=shorten(input)) from None
        return self._decode(text, document, input)

    def _compile(self) -> Any:
        if self._inline is None:
            self._inline = cast("Any", jq).compile(self.program)
        return self._inline

    def _guarded(self, document: str) -> str:
        try:
            kind, text = guard.evaluate(self.program, document)
        except guard.GuardError as error:
            raise ValueError(str(error)) from None
        if kind == b"e":
            raise ValueError(text)
        if kind == b"n":
            raise StopIteration
        return text

    def _variable(self, name: str, variables: Mapping[str, Any]) -> Any:
        if name in variables:
            return variables[name]
        if name in ARGUMENTS:
            return None
        advice = unknown_variables(self.analysis, ARGUMENTS | variables.keys())
        raise ExpressionError(self.text, f"${name} is not defined ({advice[0][1]})")

    def _parts(self, input: Any, variables: Mapping[str, Any], secrets: Secrets | None) -> list[Any]:  # noqa: A002 - jq's word
        parts: list[Any] = [input if self.analysis.reads_input else None]
        for name, keys in sorted(self.analysis.variables.items()):
            value = self._variable(name, variables)
            if keys is not None and isinstance(value, dict):
                content = cast("dict[str, Any]", value)
                value = {key: content[key] for key in keys if key in content}
            parts.append(value)
        if self.analysis.secrets:
            parts.append(self._markers(secrets))
        return parts

    def _markers(self, secrets: Secrets | None) -> dict[str, Any]:
        declared = secrets.names if secrets is not None else frozenset[str]()
        missing = self.analysis.secrets.keys() - declared
        if secrets is None or missing:
            raise SecretAccessError(sorted(missing))
        return {
            name: {part: secrets.marker(name, part) for part in parts} if parts else secrets.marker(name)
            for name, parts in self.analysis.secrets.items()
        }

    def _follow(self, path: tuple[str | int, ...], value: Any) -> Any:
        """What jq does for a path, without the way through text."""
        at: Any = value
        for part in path:
            if at is None:
                return None
            if isinstance(at, dict) and isinstance(part, str):
                at = cast("dict[str, Any]", at).get(part)
            elif isinstance(at, (list, tuple)) and isinstance(part, int):
                items = cast("list[Any]", at)
                at = items[part] if part < len(items) else None
            else:
                raise ExpressionError(
                    self.text, f"Cannot index {_kind(cast('object', at))} with {json.dumps(part)}", on=shorten(value)
                )
        return at

    def _decode(self, text: str, document: str, input: Any) -> Any:  # noqa: A002 - jq's word
        try:
            result = json.loads(text) if not has_long_number(text) else decode_exactly(text, document, self.text)
        except InexactError as error:
            raise ExpressionError(self.text, str(error), on=shorten(input)) from None
        except RecursionError:
            raise self._too_deep(input) from None
        if text.count("[") + text.count("{") > MOST_DEPTH and _is_deep(result, MOST_DEPTH):
            raise self._too_deep(input)
        return result

    def _too_deep(self, input: Any) -> ExpressionError:  # noqa: A002 - jq's word
        return ExpressionError(self.text, f"its result is nested more than {MOST_DEPTH} deep", on=shorten(input))


def _is_deep(value: Any, most: int) -> bool:
    """Whether a value is nested more than so deep."""
    level = [value]
    for _ in range(most + 1):
        level = [item for inner in level if isinstance(inner, (dict, list)) for item in _items(inner)]  # pyright: ignore[reportUnknownArgumentType] - JSON
        if not level:
            return False
    return True


def _items(value: dict[str, Any] | list[Any]) -> list[Any]:
    return [*value.values()] if isinstance(value, dict) else value


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "object" if isinstance(value, dict) else "array"


def _reason(error: object, code: str) -> str:
    """jq's message in terms of the expression, without the program that this module puts around it."""
    first = (str(error).splitlines() or ["it failed without a message"])[0].removeprefix("jq: error: ")
    lines = code.count("\n") + 1
    found = _PLACE.search(first)
    if found is None:
        return first
    line, column = int(found[1]) - 1, found[2]
    if line > lines:
        return "the expression ends too early"
    return first[: found.start()] + (f" at column {column}" if lines == 1 else f" at line {line}, column {column}")


def shorten(value: object) -> str:
    """A value as JSON text, cut to a length that fits a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


@lru_cache(maxsize=2048)
def _expression(text: str) -> Expression:
    return Expression(text)


def compile_expression(text: str) -> Expression:
    """Read an expression, with or without `${ }`. The same text gives the same object, as long as it is in use.

    Raises:
        ExpressionError: It is no jq, or uses what expressions may not (see `FORBIDDEN`).
    """
    bare = bare_text(text)
    try:
        return _expression(bare)
    except RefusedError as error:
        raise ExpressionError(bare, str(error)) from None
