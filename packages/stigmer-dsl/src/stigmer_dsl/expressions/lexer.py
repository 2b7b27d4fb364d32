"""The words of a jq program, as jq itself splits them.

Owns splitting, strings with interpolation and comments included. Does not know what words mean, and does not check
grammar: jq does. A text that jq would split in another way is refused, so that nothing hides from the analysis.
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["field", "variable", "format", "name", "keyword", "number", "text", "operator"]

KEYWORDS = frozenset(
    {
        "__loc__",
        "and",
        "as",
        "catch",
        "def",
        "elif",
        "else",
        "end",
        "foreach",
        "if",
        "import",
        "include",
        "label",
        "module",
        "or",
        "reduce",
        "then",
        "try",
    }
)

MAX_DEPTH = 100
"""The deepest nesting of brackets and interpolations."""

_WORDS = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<comment>\#[^\n]*)
    | (?P<field>\.[A-Za-z_][A-Za-z_0-9]*)
    | (?P<variable>\$(?:[A-Za-z_][A-Za-z_0-9]*::)*[A-Za-z_][A-Za-z_0-9]*)
    | (?P<format>@[A-Za-z0-9_]+)
    | (?P<name>(?:[A-Za-z_][A-Za-z_0-9]*::)*[A-Za-z_][A-Za-z_0-9]*)
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<operator>\?//=|//=|\?//|//|==|!=|<=|>=|\|=|\+=|-=|\*=|/=|%=|\.\.|[.?=:;,|+\-*/%$<>\[\](){}])
    | (?P<quote>")
    """,
    re.VERBOSE,
)
_LITERAL = re.compile(r'(?:[^"\\]|\\(?!\().)*', re.DOTALL)
_OPENING = {"(": ")", "[": "]", "{": "}"}


class LexError(ValueError):
    """The text cannot be split into words."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """A word. Of a string, each literal part is a `text`; an interpolation stands between `(` and `)` operators."""

    kind: Kind
    text: str
    offset: int
    opens: bool = False
    """Whether this `text` is the first part of a string; the string's other parts follow its interpolations."""
    whole: bool = False
    """Whether this `text` is a string without interpolation."""


class _Lexer:
    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.at = start
        self.tokens: list[Token] = []
        self._depth = 0

    def run(self, closing: str) -> None:
        """Split up to the `closing` bracket, which is left standing; "" is the end of the text."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise LexError(f"brackets are nested deeper than {MAX_DEPTH} levels", self.at)
        while self.at < len(self.text):
            if self.text[self.at] == closing:
                self._depth -= 1
                return
            self._word()
        if closing:
            raise LexError(f"no {closing!r} closes what was opened", self.at)

    def _word(self) -> None:
        found = _WORDS.match(self.text, self.at)
        if found is None:
            character = self.text[self.at]
            hint = "; a text stands between double quotes" if character == "'" else ""
            raise LexError(f"the character {character!r} is not allowed{hint}", self.at)
        start, self.at = self.at, found.end()
        kind, word = found.lastgroup, found[0]
        if kind == "quote":
            self._string(start)
        elif kind == "comment":
            if "\\" in word or "\r" in word.removesuffix("\r"):
                raise LexError("a comment must not contain a backslash or a carriage return", start)
        elif kind == "operator":
            self._operator(word, start)
        elif kind == "name":
            self.tokens.append(Token("keyword" if word in KEYWORDS else "name", word, start))
        elif kind in ("field", "variable", "format", "number"):
            self.tokens.append(Token(kind, word, start))

    def _operator(self, word: str, start: int) -> None:
        self.tokens.append(Token("operator", word, start))
        if word in _OPENING:
            self.run(_OPENING[word])
            self.tokens.append(Token("operator", self.text[self.at], self.at))
            self.at += 1
        elif word in ")]}":
            raise LexError(f"{word!r} closes nothing", start)

    def _string(self, start: int) -> None:
        opens = True
        while True:
            found = _LITERAL.match(self.text, self.at)
            literal = found[0] if found else ""
            begin, self.at = self.at, self.at + len(literal)
            following = self.text[self.at : self.at + 2]
            whole = opens and following.startswith('"')
            self.tokens.append(Token("text", literal, start if opens else begin, opens=opens, whole=whole))
            if following.startswith('"'):
                self.at += 1
                return
            if following != "\\(":
                raise LexError("no double quote closes the text", start)
            opens = False
            self.tokens.append(Token("operator", "(", self.at + 1))
            self.at += 2
            self.run(")")
            self.tokens.append(Token("operator", ")", self.at))
            self.at += 1


def split(text: str) -> tuple[Token, ...]:
    """The words of a program.

    Raises:
        LexError: The text is no sequence of words, or its brackets do not match.
    """
    lexer = _Lexer(text, 0)
    lexer.run("")
    return tuple(lexer.tokens)


def end_of_expression(text: str, start: int) -> int:
    """Where the expression that begins at `start` ends: the place of the `}` that closes it.

    Raises:
        LexError: Nothing closes it.
    """
    lexer = _Lexer(text, start)
    lexer.run("}")
    return lexer.at
