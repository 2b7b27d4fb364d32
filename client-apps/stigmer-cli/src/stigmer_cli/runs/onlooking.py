"""A person who looks on while a run goes: sees what is new, and is asked where one is needed."""

from __future__ import annotations

import sys
from types import TracebackType

from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Session
from stigmer_cli.resources import Resources
from stigmer_cli.runs.agent import AgentRun
from stigmer_cli.runs.attending import Attendant
from stigmer_cli.runs.execution import Execution
from stigmer_cli.runs.states import Run, shape_of


def is_told(session: Session) -> bool:
    """Whether to tell how things go: not when a program reads the result and nobody looks on."""
    return session.output is OutputFormat.TABLE or sys.stderr.isatty()


class Onlooker:
    """Shows one run, over as many connections as it takes. A context manager.

    Args:
        session: Who looks on.
        identifier: The run.
        attendant: Asks about tool calls; a new one unless given.
    """

    def __init__(self, session: Session, identifier: str, *, attendant: Attendant | None = None) -> None:
        told = is_told(session)
        self._shown = shape_of(identifier).view(told)
        self._attendant = attendant or Attendant.at_prompt(wanted=told)

    def __enter__(self) -> Onlooker:
        self._view = self._shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, traceback)

    @property
    def showed_answer(self) -> bool:
        """Whether the result can be read on standard error already."""
        return self._view.showed_answer

    async def see(self, resources: Resources, run: Run) -> None:
        """Show what is new, and ask the person what must be decided."""
        self._view.update(run)
        if not isinstance(run, AgentRun | Execution) or not self._attendant.is_needed(run):
            return
        with self._view.aside():
            await self._attendant.attend(resources, run)
