"""Label selectors: the text that people write, understood as terms that the store knows.

    team=blue, tier in (web, api), !legacy

Terms are joined by commas, and all of them must hold. A term is `key`, `!key`, `key=value` (or `key==value`),
`key!=value`, `key in (a, b)` or `key notin (a, b)`. A resource without the label fits `!key`, `!=` and `notin`.
Keys and values are any text without blanks and without `,`, `=`, `!` and parentheses; a value may be empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stigmer_sqlite.port import LabelTerm

from stigmer_server.errors import InvalidError

MAX_TERMS = 100

_WORD = r"[^\s,=!()]+"
_EXISTS = re.compile(rf"(!?)\s*({_WORD})")
_EQUALS = re.compile(rf"({_WORD})\s*(==|=|!=)\s*({_WORD}|)")
_ONE_OF = re.compile(rf"({_WORD})\s+(in|notin)\s*\((.*)\)")
_VALUE = re.compile(_WORD)
_FORMS = "key, !key, key=value, key!=value, key in (a, b), key notin (a, b)"


def parse(text: str, *, field: str = "selector") -> tuple[LabelTerm, ...]:
    """Return the terms of a selector; none for a blank one.

    Raises:
        InvalidError: A term is none; it names the term, its place, and what is wrong with it.
    """
    if not text.strip():
        return ()
    terms = tuple(_term(part, number, field) for number, part in enumerate(_split(text), start=1))
    if len(terms) > MAX_TERMS:
        raise InvalidError.of(field, "selector.terms", f"has {len(terms)} terms; {MAX_TERMS} are allowed")
    return terms


def _split(text: str) -> Iterator[str]:
    """Yield the text between commas, except for those in parentheses."""
    begin = depth = 0
    for at, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "," and depth <= 0:
            yield text[begin:at].strip()
            begin = at + 1
    yield text[begin:].strip()


def _term(text: str, number: int, field: str) -> LabelTerm:
    if found := _EXISTS.fullmatch(text):
        return LabelTerm(key=found[2], negated=bool(found[1]))
    if found := _EQUALS.fullmatch(text):
        return LabelTerm(key=found[1], values=(found[3],), negated=found[2] == "!=")
    if (found := _ONE_OF.fullmatch(text)) and (values := _values(found[3])):
        return LabelTerm(key=found[1], values=values, negated=found[2] == "notin")
    raise InvalidError.of(field, "selector.syntax", f"term {number} ({text!r}) {_fault(text)}")


def _values(text: str) -> tuple[str, ...]:
    """Return the values of a list, or none where one of them is no value."""
    values = tuple(part.strip() for part in text.split(","))
    return values if all(_VALUE.fullmatch(value) for value in values) else ()


def _fault(text: str) -> str:
    """Say what keeps the text from being a term."""
    if not text:
        return "is empty: terms are separated by single commas"
    if text.count("(") != text.count(")"):
        return "has a parenthesis that is not closed, or not opened"
    if found := _ONE_OF.fullmatch(text):
        return f"needs values in its parentheses, such as {found[1]} {found[2]} (a, b)"
    if re.match(rf"{_WORD}\s+(in|notin)\b", text):
        return "needs its values in parentheses, such as key in (a, b)"
    if re.match(r"(==|=|!=)", text):
        return "has no key before its operator"
    return f"is none of: {_FORMS}"
