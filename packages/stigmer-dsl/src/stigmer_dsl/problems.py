"""What can be wrong with a document: one value for every problem, located, coded and with advice."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple


class Position(NamedTuple):
    """A place in a text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a document, where, and what to do about it."""

    code: str
    """Stable; docs/errors.md describes each."""
    message: str
    """What is wrong, as a sentence without a full stop."""
    pointer: str = ""
    """JSON pointer (RFC 6901) into the document; empty for the whole of it."""
    position: Position | None = None
    """Where it stands in the text; None for a document that never was one."""
    source: str = ""
    """The name of the text."""
    hint: str = ""
    """What to do; empty where the message says it."""

    def __str__(self) -> str:
        """The problem on one line: `file:line:column: pointer: message (hint)`."""
        place = self.source
        if self.position is not None:
            place += f":{self.position.line}:{self.position.column}"
        parts = [part for part in (place, self.pointer or "/") if part]
        return ": ".join([*parts, self.message]) + (f" ({self.hint})" if self.hint else "")

    def to_dict(self) -> dict[str, str | int | None]:
        """The problem as JSON: file, line, column, pointer, code, message, hint."""
        return {
            "file": self.source,
            "line": self.position.line if self.position else None,
            "column": self.position.column if self.position else None,
            "pointer": self.pointer,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
        }


def pointer_to(parts: Iterable[str | int]) -> str:
    """The JSON pointer of a path of keys and indexes."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def pointer_parts(pointer: str) -> list[str]:
    """The keys and indexes of a JSON pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Advice for a misspelt word: the nearest known one, else all of them if they are few."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6) or get_close_matches(
        word.lower(), [name.lower() for name in names], n=1, cutoff=0.6
    )
    if near:
        return f"did you mean {next(name for name in names if name.lower() == near[0].lower())!r}?"
    if names and len(names) <= 12:
        return "known: " + ", ".join(names)
    return otherwise
