"""`stigmer doctor`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.options import Debug, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.checks import Check
    from stigmer_cli.options import Session

UNSOUND = 5
_STYLES = {"ok": Style.GREEN, "note": Style.YELLOW, "problem": Style.RED}


def doctor(context: typer.Context, output: Output = None, debug: Debug = False, server: Server = "") -> None:
    """Look whether everything is here and sound, and say what to do. Exit code 5: there is a problem."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.checks import State

    checks = runtime.run(_look(made))
    problems = [check for check in checks if check.state is State.PROBLEM]
    if made.output.is_structured:
        listed = [
            {"name": check.name, "state": check.state.value, "detail": check.detail, "hint": check.hint or None}
            for check in checks
        ]
        console.result(console.structured({"healthy": not problems, "checks": listed}, made.output))
    elif made.output is OutputFormat.NAME:
        console.result("\n".join(check.name for check in problems))
    else:
        console.result("\n".join(_lines(checks)))
        console.note(f"{len(problems)} to mend" if problems else "nothing to mend")
    if problems:
        raise typer.Exit(UNSOUND)


async def _look(made: Session) -> list[Check]:
    from stigmer_cli.checks import look

    return [check async for check in look(made.environment, made.server)]


def _lines(checks: list[Check]) -> list[str]:
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    for check in checks:
        state = console.styled(check.state.value.ljust(7), _STYLES[check.state.value], sys.stdout)
        lines.append(f"{state}  {check.name.ljust(width)}  {check.detail}")
        if check.hint:
            lines.append(f"{' ' * (width + 11)}{check.hint}")
    return lines
