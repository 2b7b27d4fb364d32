"""A run of an agent on the screen: its words as they come, and a line for every tool call when it begins and ends."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any

from stigmer_cli.console import Style, printable, styled
from stigmer_cli.runs.agent import AgentRun, Call, Said
from stigmer_cli.runs.phases import duration

_STYLES = {"COMPLETED": Style.GREEN, "FAILED": Style.RED, "INTERRUPTED": Style.RED, "SKIPPED": Style.DIM}
_MARKS = {"COMPLETED": "✓", "FAILED": "✗", "INTERRUPTED": "✗", "SKIPPED": "-", "WAITING_APPROVAL": "?"}
_LONGEST_ARGUMENT, _LONGEST_RESULT = 60, 100


class ConversationView:
    """Shows one run on standard error. A context manager; `update` takes every new state of the run.

    Args:
        enabled: False shows nothing, for when standard output carries a document and nobody watches.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._said: dict[int, str] = {}
        self._calls: set[tuple[str, str]] = set()
        self._is_line_open = False
        self._showed_answer = False

    def __enter__(self) -> ConversationView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_line()

    @property
    def showed_answer(self) -> bool:
        """Whether the agent's words can be read on standard error already."""
        return self._showed_answer

    def update(self, run: AgentRun) -> None:
        """Show what is new."""
        if not self._enabled:
            return
        told: set[str] = set()
        why = str(run.error["message"]) if run.error else None  # told at the end, with what can be done
        for number, message in enumerate(run.messages):
            if message.by != "SYSTEM" or message.text != why:
                self._show(number, message)
            # What was asked for comes after the words that ask for it, and before the answer made of it.
            for call in run.calls:
                if call.id not in told and (call.id in message.calls or call.task in told):
                    told.add(call.id)
                    self._tell(call)
        sys.stderr.flush()

    @contextlib.contextmanager
    def aside(self) -> Generator[None]:
        """See `View`."""
        self._end_line()
        yield

    def _end_line(self) -> None:
        """End the line of what is being said, if one was begun."""
        if self._is_line_open:
            self._is_line_open = False
            sys.stderr.write("\n")

    def _show(self, number: int, message: Said) -> None:
        if message.by not in {"AI", "SYSTEM"}:
            return
        before = self._said.get(number, "")
        if message.text == before:
            return
        self._said[number] = message.text
        if message.by == "SYSTEM":
            self._line(message.text, Style.YELLOW)
            return
        self._showed_answer = True
        if before and message.text.startswith(before):
            self._write(message.text[len(before) :])
        else:
            self._end_line()
            self._write(message.text)

    def _tell(self, call: Call) -> None:
        if call.status in {"PENDING", "UNSPECIFIED"} or (call.id, call.status) in self._calls:
            return
        is_first = all(known != call.id for known, _ in self._calls)
        self._calls.add((call.id, call.status))
        who = f"{call.agent}: " if call.agent else ""
        if is_first or call.status == "WAITING_APPROVAL":
            mark = _MARKS.get("WAITING_APPROVAL" if call.status == "WAITING_APPROVAL" else "", "▸")
            self._line(f"{mark} {who}{call.name}({_arguments(call.arguments)})", Style.CYAN)
        if call.status in _STYLES:
            took = duration(call.seconds)
            told = first_line(call.error or call.result, _LONGEST_RESULT)
            parts = [f"{_MARKS[call.status]} {who}{call.name}", took, told]
            self._line("  ".join(part for part in parts if part), _STYLES[call.status])

    def _line(self, text: str, style: Style) -> None:
        self._end_line()
        sys.stderr.write(styled(printable(text), style, sys.stderr) + "\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stderr.write(printable(text))
            self._is_line_open = not text.endswith("\n")


def _arguments(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_argument(value)}" for name, value in arguments.items())


def _argument(value: Any) -> str:
    return first_line(json.dumps(value, ensure_ascii=False), _LONGEST_ARGUMENT)


def first_line(text: str, longest: int) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
