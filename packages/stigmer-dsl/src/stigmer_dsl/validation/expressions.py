"""Checks of every expression in a document, all in one go.

jq takes over a millisecond to start on a program however short, so sound expressions are compiled together; only if
that fails is each compiled alone, to find which one it is.
"""

import re
from dataclasses import dataclass, field
from typing import Any, cast

import jq

from stigmer_dsl.expressions import guard
from stigmer_dsl.expressions.analysis import RefusedError, unknown_variables
from stigmer_dsl.expressions.lexer import LexError, end_of_expression
from stigmer_dsl.expressions.program import Expression, bare_text, is_expression
from stigmer_dsl.problems import did_you_mean
from stigmer_dsl.secrets import PLACEHOLDER
from stigmer_dsl.validation.findings import Finding, Report

_TOGETHER = 100
"""How many expressions are compiled in one go: more make jq slower."""
_BARE_WORD = re.compile(r"([A-Za-z_]\w*)/0 is not defined")
_MAX_FAILURES = 20
"""How many expressions that do not compile are reported; finding one takes up to half a second."""


@dataclass(slots=True, kw_only=True)
class ExpressionChecks:
    """Collects the expressions of a document while it is walked; `finish` compiles them."""

    report: Report
    secrets: frozenset[str]
    loose: bool
    _pending: list[tuple[str, Expression]] = field(default_factory=list[tuple[str, Expression]])
    _failures: int = 0

    def text(self, pointer: str, text: str, known: frozenset[str]) -> None:
        """A text in which expressions may stand."""
        if "${" not in text:
            return
        one = is_expression(text) and _closes_itself(text)
        if PLACEHOLDER.fullmatch(text.strip()) or (not one and not self.loose and PLACEHOLDER.search(text)):
            self._placeholders(pointer, text)
        elif one or (is_expression(text) and not self.loose):
            hint = "" if one else "in strict mode the whole text must be one expression"
            self.expression(pointer, bare_text(text), known, hint=hint)
        elif self.loose:
            self._interpolated(pointer, text, known)

    def bare(self, pointer: str, text: str, known: frozenset[str]) -> None:
        """A field that is an expression by its nature."""
        if PLACEHOLDER.fullmatch(text.strip()):
            self._placeholders(pointer, text)
        else:
            self.expression(pointer, bare_text(text), known)

    def expression(self, pointer: str, text: str, known: frozenset[str], *, hint: str = "") -> None:
        """One expression, without `${ }`."""
        try:
            expression = Expression(text)
        except RefusedError as error:
            self.report(
                Finding(code=error.code, pointer=pointer, message=str(error), hint=error.hint or hint, expression=text)
            )
            return
        unknown = unknown_variables(expression.analysis, known)
        for name, advice in unknown:
            self.report(
                Finding(
                    code="expression.unknown-variable",
                    pointer=pointer,
                    message=f"${name} is not defined here",
                    hint=advice,
                )
            )
        for name in sorted(expression.secrets - self.secrets):
            self._unknown_secret(pointer, name, otherwise="add it to use.secrets")
        if not unknown and expression.analysis.path is None:
            self._pending.append((pointer, expression))

    def _placeholders(self, pointer: str, text: str) -> None:
        advice = "add it to use.secrets"
        if not self.secrets:
            advice += "; to read a field of the input write ${ .secrets… } with a space"
        for name in sorted(set(PLACEHOLDER.findall(text)) - self.secrets):
            self._unknown_secret(pointer, name, otherwise=advice)

    def _unknown_secret(self, pointer: str, name: str, *, otherwise: str) -> None:
        advice = did_you_mean(name, self.secrets, otherwise=otherwise)
        message = f"secret {name!r} is not declared"
        self.report(Finding(code="expression.unknown-secret", pointer=pointer, message=message, hint=advice))

    def _interpolated(self, pointer: str, text: str, known: frozenset[str]) -> None:
        at = 0
        while (start := text.find("${", at)) >= 0:
            try:
                end = end_of_expression(text, start + 2)
            except LexError as error:
                self.report(Finding(code="expression.syntax", pointer=pointer, message=str(error)))
                return
            self.text(pointer, text[start : end + 1], known)
            at = end + 1

    def finish(self) -> None:
        """Compile what was collected, and report what does not compile."""
        inline = [(pointer, found) for pointer, found in self._pending if found.analysis.bounded]
        watched = [(pointer, found) for pointer, found in self._pending if not found.analysis.bounded]
        for group, compiles in ((inline, _compiles_inline), (watched, _compiles_watched)):
            for start in range(0, len(group), _TOGETHER):
                some = group[start : start + _TOGETHER]
                if not compiles(_together([found for _, found in some])):
                    for pointer, found in some:
                        self._report_failure(pointer, found)

    def _report_failure(self, pointer: str, expression: Expression) -> None:
        if self._failures >= _MAX_FAILURES:
            return
        reason = expression.check()
        if reason is not None:
            self._failures += 1
            self.report(
                Finding(
                    code="expression.syntax",
                    pointer=pointer,
                    message=reason,
                    hint=_advice(reason),
                    expression=expression.text,
                )
            )


def _advice(reason: str) -> str:
    """What a word without a dot was probably meant to be, which jq takes for a function."""
    found = _BARE_WORD.match(reason)
    return f'write .{found[1]} for a field of the data, or "{found[1]}" for a text' if found else ""


def _together(expressions: list[Expression]) -> str:
    # jq drops a function that nothing calls before it looks for mistakes in it, so each is called.
    functions = "".join(f"def e{n}: ({expression.program});\n" for n, expression in enumerate(expressions))
    return functions + "|".join(f"e{n}" for n in range(len(expressions)))


def _compiles_inline(program: str) -> bool:
    try:
        cast("Any", jq).compile(program)
    except ValueError:
        return False
    return True


def _compiles_watched(program: str) -> bool:
    try:
        kind, _ = guard.evaluate(program, "")
    except guard.GuardError:
        return False
    return kind != b"e"


def _closes_itself(text: str) -> bool:
    """Whether the bracket at the end of a text is the one that closes its first `${`."""
    start = text.index("${") + 2
    try:
        return end_of_expression(text, start) == len(text.rstrip()) - 1
    except LexError:
        return True
