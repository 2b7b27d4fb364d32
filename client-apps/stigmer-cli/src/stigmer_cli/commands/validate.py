"""`stigmer validate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, Org, Output, session


def validate(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, folders, or - for standard input.")],
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Check manifests and workflows, offline.

    Every problem is told with its line and column.
    """
    made = session(context, output=output, debug=debug)
    from stigmer_cli.manifests import load, read_files

    read = read_files(files)
    manifests, problems = load(read, org=org)
    if made.output in {OutputFormat.JSON, OutputFormat.YAML}:
        listed = [problem.to_dict() for problem in problems]
        found = [{"kind": manifest.kind.name, "name": manifest.name, "file": manifest.source} for manifest in manifests]
        console.result(console.structured({"valid": not problems, "resources": found, "problems": listed}, made.output))
    if problems:
        raise invalid(problems)
    if made.output is OutputFormat.NAME:
        for manifest in manifests:
            console.result(f"{manifest.kind.enum_name}/{manifest.slug}")
    elif made.output is OutputFormat.TABLE:
        for manifest in manifests:
            told = f"{manifest.source}:{manifest.position.line}: {manifest.kind.name} {manifest.name} is valid"
            console.result(console.styled(told, Style.GREEN, sys.stdout))


def invalid(problems: Sequence[object]) -> InvalidInputError:
    """Return the error that tells all the problems."""
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    return InvalidInputError(f"{count} found, nothing was stored", problems=problems, hint="correct them and try again")
