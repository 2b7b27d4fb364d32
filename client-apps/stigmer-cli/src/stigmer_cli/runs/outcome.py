"""How a run ended, as words, as a document and as an exit code."""

from __future__ import annotations

from stigmer_cli import console
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.errors import RUN_FAILED
from stigmer_cli.runs.execution import Execution
from stigmer_cli.runs.view import duration


def tell(execution: Execution, output: OutputFormat) -> int:
    """Print a finished run: its output on standard output, how it went on standard error. Return the exit code."""
    is_good = execution.phase == "COMPLETED"
    if output in {OutputFormat.JSON, OutputFormat.YAML}:
        console.result(console.structured(execution.to_dict(), output))
    elif output is OutputFormat.NAME:
        console.result(execution.id)
    else:
        took = f" in {duration(execution.seconds)}" if execution.seconds is not None else ""
        console.note(f"{execution.phase.lower()}{took}", style=Style.GREEN if is_good else Style.RED)
        if is_good:
            console.result(console.to_json(execution.output))
    if not is_good and output is not OutputFormat.JSON and output is not OutputFormat.YAML:
        _tell_error(execution)
    return 0 if is_good else RUN_FAILED


def _tell_error(execution: Execution) -> None:
    error = execution.error or {"message": f"the run is {execution.phase.lower()}"}
    console.complain(str(error["message"]), hint=f"`stigmer get {execution.id} -o yaml` tells all of it")
    for key in ("type", "status", "instance"):
        if error.get(key):
            console.note(f"  {key}: {error[key]}")
