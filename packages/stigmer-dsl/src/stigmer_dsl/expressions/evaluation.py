"""Expressions inside values: what a task's definition becomes when it runs."""

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

from stigmer_dsl.errors import ExpressionError, SecretAccessError
from stigmer_dsl.expressions.lexer import LexError, end_of_expression
from stigmer_dsl.expressions.program import compile_expression, is_expression, shorten
from stigmer_dsl.secrets import PLACEHOLDER, Secrets

Mode: TypeAlias = Literal["strict", "loose"]
"""Which texts are expressions.

`strict`: a text that is `${ … }` as a whole. `loose`: every text, and every `${ … }` inside a longer text; a text whose
evaluation fails stands for itself.
"""


def evaluate(
    value: Any,
    input: Any,  # noqa: A002 - jq's word
    variables: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
    mode: Mode = "strict",
) -> Any:
    """A value of a definition with every expression in it replaced by its result.

    Objects and lists are walked at any depth; keys are no expressions. `$secrets.X` and the placeholders
    `${.secrets.X}` and `${.env_vars.X}` become markers (see `stigmer_dsl.secrets`). The value is not changed. What
    comes out of an expression is data: it is not evaluated again.

    Args:
        value: Part of a definition, never of the data of a run.
        input: What `.` is.
        variables: The variables by name, without `$`. `context`, `input`, `output`, `task`, `workflow`, `runtime` and
            `authorization` are null unless given.
        secrets: The secrets that may be named, and the nonce of their markers.
        mode: See `Mode`.

    Raises:
        ExpressionError: An expression failed.
        SecretAccessError: A secret is named that `secrets` does not declare.
    """
    known: Mapping[str, Any] = variables if variables is not None else {}
    if isinstance(value, str):
        return _evaluate_text(value, input, known, secrets, mode)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return {key: evaluate(item, input, known, secrets=secrets, mode=mode) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return [evaluate(item, input, known, secrets=secrets, mode=mode) for item in items]
    return value


def evaluate_bare(
    text: str,
    input: Any,  # noqa: A002 - jq's word
    variables: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
) -> Any:
    """The result of a field that is an expression by its nature (`if`, `when`, `in`, `from` …), with or without `${ }`.

    Raises:
        ExpressionError: The expression failed.
        SecretAccessError: It names a secret that `secrets` does not declare.
    """
    known: Mapping[str, Any] = variables if variables is not None else {}
    if PLACEHOLDER.fullmatch(text.strip()):
        return _fill_placeholders(text.strip(), secrets)
    return compile_expression(text).evaluate(input, known, secrets)


def evaluate_condition(
    text: str,
    input: Any,  # noqa: A002 - jq's word
    variables: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
) -> bool:
    """Whether a condition holds.

    Raises:
        ExpressionError: The expression failed, or its result is neither true, false nor null (null is false).
        SecretAccessError: It names a secret that `secrets` does not declare.
    """
    result = evaluate_bare(text, input, variables, secrets=secrets)
    if result is None or isinstance(result, bool):
        return bool(result)
    reason = f"a condition must give true or false, not {shorten(result)}"
    raise ExpressionError(text, reason, on=shorten(input))


def _evaluate_text(
    text: str,
    input: Any,  # noqa: A002 - jq's word
    variables: Mapping[str, Any],
    secrets: Secrets | None,
    mode: Mode,
) -> Any:
    if mode == "loose":
        return _evaluate_loosely(text, input, variables, secrets)
    if "${" not in text:
        return text
    if PLACEHOLDER.fullmatch(text):
        return _fill_placeholders(text, secrets)
    if is_expression(text) and (PLACEHOLDER.search(text) is None or _is_one(text)):
        return compile_expression(text).evaluate(input, variables, secrets)
    return _fill_placeholders(text, secrets)


def _evaluate_loosely(text: str, input: Any, variables: Mapping[str, Any], secrets: Secrets | None) -> Any:  # noqa: A002 - jq's word
    if PLACEHOLDER.fullmatch(text):
        return _fill_placeholders(text, secrets)
    try:
        if "${" in text and not (is_expression(text) and _is_one(text)):
            return _interpolate(text, input, variables, secrets)
        expression = compile_expression(text)
        return expression.evaluate(input, variables, secrets) if expression.compiles else text
    except ExpressionError:
        return _fill_placeholders(text, secrets)


def _is_one(text: str) -> bool:
    """Whether the bracket that ends the text is the one that closes its first `${`."""
    start = text.index("${") + 2
    try:
        return end_of_expression(text, start) == len(text.rstrip()) - 1
    except LexError:
        return True


def _interpolate(text: str, input: Any, variables: Mapping[str, Any], secrets: Secrets | None) -> str:  # noqa: A002 - jq's word
    """The text with each `${ … }` replaced by its result: a text as it is, anything else as JSON."""
    parts: list[str] = []
    at = 0
    while (start := text.find("${", at)) >= 0:
        parts.append(text[at:start])
        placeholder = PLACEHOLDER.match(text, start)
        if placeholder is not None:
            parts.append(_fill_placeholders(placeholder[0], secrets))
            at = placeholder.end()
            continue
        try:
            end = end_of_expression(text, start + 2)
        except LexError as error:
            raise ExpressionError(text[start + 2 :], str(error)) from None
        result = compile_expression(text[start : end + 1]).evaluate(input, variables, secrets)
        parts.append(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))
        at = end + 1
    return "".join([*parts, text[at:]])


def _fill_placeholders(text: str, secrets: Secrets | None) -> str:
    """The text with a marker for each placeholder."""
    names = set(PLACEHOLDER.findall(text))
    if not names:
        return text
    missing = names - secrets.names if secrets is not None else names
    if secrets is None or missing:
        raise SecretAccessError(sorted(missing))
    markers = {name: secrets.marker(name) for name in names}
    return PLACEHOLDER.sub(lambda found: markers[found[1]], text)
