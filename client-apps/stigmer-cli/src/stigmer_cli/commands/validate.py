"""`stigmer validate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, Org, Output, session

if TYPE_CHECKING:
    from stigmer_cli.manifests import Manifest
    from stigmer_cli.options import Session


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
    tell_doubts(made, manifests)
    if made.output in {OutputFormat.JSON, OutputFormat.YAML}:
        listed = [problem.to_dict() for problem in problems]
        doubts = [doubt.to_dict() for manifest in manifests for doubt in manifest.doubts]
        found = [{"kind": manifest.kind.name, "name": manifest.name, "file": manifest.source} for manifest in manifests]
        told = {"valid": not problems, "resources": found, "problems": listed, "warnings": doubts}
        console.result(console.structured(told, made.output))
    if problems:
        raise invalid(problems)
    if made.output is OutputFormat.NAME:
        for manifest in manifests:
            console.result(f"{manifest.kind.enum_name}/{manifest.slug}")
    elif made.output is OutputFormat.TABLE:
        for manifest in manifests:
            told = f"{manifest.source}:{manifest.position.line}: {manifest.kind.name} {manifest.name} is valid"
            console.result(console.styled(told, Style.GREEN, sys.stdout))


def tell_doubts(made: Session, manifests: Sequence[Manifest]) -> None:
    """Say what stands in nobody's way but is hardly meant, unless a document with it is asked for."""
    if made.output in {OutputFormat.JSON, OutputFormat.YAML}:
        return
    for manifest in manifests:
        for doubt in manifest.doubts:
            console.note(f"warning: {doubt}", style=Style.YELLOW)


def invalid(problems: Sequence[object]) -> InvalidInputError:
    """Return the error that tells all the problems."""
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    return InvalidInputError(f"{count} found, nothing was stored", problems=problems, hint="correct them and try again")
