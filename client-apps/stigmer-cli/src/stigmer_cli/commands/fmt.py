"""`stigmer fmt`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stigmer_cli import console
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, session


def fmt(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, folders, or - for standard input.")],
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if a file would change.")] = False,
    debug: Debug = False,
) -> None:
    """Write workflows in their canonical form, offline.

    Keys come in the specification's order and comments stay; what a file means never changes.
    """
    session(context, output=None, debug=debug)
    from stigmer_dsl import DocumentError, format_text

    from stigmer_cli.manifests import read_files

    changed = False
    for file in read_files(files):
        try:
            text = format_text(file.text, name=file.name)
        except DocumentError as error:
            msg = f"{file.name} cannot be read, nothing of it was changed"
            raise InvalidInputError(msg, problems=error.problems) from error
        if file.name == "<stdin>" and not check:
            sys.stdout.write(text)
        elif text != file.text:
            changed = True
            console.result(f"{file.name}: {'would be formatted' if check else 'formatted'}")
            if not check:
                Path(file.name).write_text(text, encoding="utf-8")
    if check and changed:
        raise typer.Exit(1)
