"""What the person at the prompt reads: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from enum import Enum, StrEnum
from typing import Any, TextIO


class OutputFormat(StrEnum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    WIDE = "wide"
    """A table with more columns, for commands that have more to tell; a table for the others."""

    @property
    def is_structured(self) -> bool:
        """Whether programs read it."""
        return self in {OutputFormat.JSON, OutputFormat.YAML}


class Style(Enum):
    """How text stands out on a terminal."""

    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


_UNIT = 1024
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, without tabs and ends of lines."""
_MARKS = {"note": Style.CYAN, "warning": Style.YELLOW, "error": Style.RED}


def is_styled(stream: TextIO) -> bool:
    """Whether colour may be written there: a terminal, and nobody asked for none (NO_COLOR, TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Style | None, stream: TextIO) -> str:
    """Return the text as it is to be written to the stream."""
    return f"\x1b[{style.value}m{text}\x1b[0m" if style is not None and is_styled(stream) else text


def note(text: str, *, style: Style | None = None) -> None:
    """Tell how things go, on standard error."""
    sys.stderr.write(styled(text, style, sys.stderr) + "\n")
    sys.stderr.flush()


def complain(text: str, *, hint: str = "") -> None:
    """Tell what is wrong, and what to do next, on standard error."""
    sys.stderr.write(f"{styled('error:', Style.RED, sys.stderr)} {text}\n")
    if hint:
        sys.stderr.write(f"  {hint}\n")
    sys.stderr.flush()


@contextmanager
def waiting(text: str) -> Generator[None]:
    """Tell what is being waited for: with a spinner on a terminal, on a line of its own elsewhere."""
    if not is_styled(sys.stderr):
        note(f"{text} …")
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{text} …"):
        yield


def confirm(question: str) -> bool:
    """Ask on standard error, and return whether the answer is yes; without a terminal there is nobody to ask."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def printable(text: str) -> str:
    """Return a text of somebody else without what would command the terminal."""
    return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", text)


def result(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows under headings, columns aligned; headings stand out on a terminal."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [headings, *lines]) for column in range(len(headings))]

    def aligned(line: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()

    return "\n".join([styled(aligned(headings), Style.BOLD, sys.stdout), *map(aligned, lines)])


def size(count: float) -> str:
    """Return a number of bytes in the unit that fits it."""
    for unit in ("B", "KiB", "MiB"):
        if count < _UNIT:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _UNIT
    return f"{count:.1f} GiB"


def to_json(value: Any) -> str:
    """Return a value as JSON for people and programs."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def to_yaml(value: Any) -> str:
    """Return a value as YAML, texts of several lines as blocks."""
    from stigmer_cli.yaml_text import dump

    return dump(value)


def to_line(value: Any) -> str:
    """Return a value as JSON on one line, for one of many."""
    return json.dumps(value, ensure_ascii=False)


def structured(value: Any, output: OutputFormat) -> str:
    """Return a value in the structured format that was asked for, JSON unless YAML was."""
    return to_yaml(value) if output is OutputFormat.YAML else to_json(value)


def outcome(output: OutputFormat, value: Any, *, name: str, text: str) -> None:
    """Print what became of something as it was asked for: a document, its name alone, or a sentence."""
    if output.is_structured:
        result(structured(value, output))
    else:
        result(name if output is OutputFormat.NAME else text)


def entries(
    output: OutputFormat,
    *,
    items: Iterable[Any],
    names: Iterable[str],
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> None:
    """Print a list as it was asked for: a document, names line by line, or a table."""
    if output.is_structured:
        result(structured({"items": list(items)}, output))
    elif output is OutputFormat.NAME:
        for name in names:
            result(name)
    else:
        result(table(headings, rows))
