"""How a run ended, as words, as a document and as an exit code."""

from __future__ import annotations

import sys

from stigmer_cli import console
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.errors import RUN_FAILED
from stigmer_cli.runs.agent import AgentRun
from stigmer_cli.runs.phases import duration
from stigmer_cli.runs.states import Run


def tell(execution: Run, output: OutputFormat, *, showed_answer: bool = False) -> int:
    """Print a finished run: its output on standard output, how it went on standard error. Return the exit code.

    Where a person has read the output already, as it came, it is not printed a second time to the same terminal.
    """
    is_good = execution.phase == "COMPLETED"
    if output in {OutputFormat.JSON, OutputFormat.YAML}:
        console.result(console.structured(execution.to_dict(), output))
    elif output is OutputFormat.NAME:
        console.result(execution.id)
    else:
        took = f" in {duration(execution.seconds)}" if execution.seconds is not None else ""
        told = f" ({execution.summary})" if execution.summary else ""
        console.note(f"{execution.phase.lower()}{took}{told}", style=Style.GREEN if is_good else Style.RED)
        if isinstance(execution, AgentRun) and execution.made:
            console.note(execution.made)
        if is_good and not (showed_answer and sys.stdout.isatty()):
            console.result(execution.printed)
    if not is_good and output is not OutputFormat.JSON and output is not OutputFormat.YAML:
        _tell_error(execution)
    return 0 if is_good else RUN_FAILED


def _tell_error(execution: Run) -> None:
    error = execution.error or {"message": f"the run is {execution.phase.lower()}"}
    console.complain(str(error["message"]), hint=f"`stigmer get {execution.id} -o yaml` tells all of it")
    for key in ("type", "status", "instance"):
        if error.get(key):
            console.note(f"  {key}: {error[key]}")
