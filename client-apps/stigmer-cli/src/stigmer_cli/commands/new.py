"""`stigmer new`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import ConflictError, InvalidInputError
from stigmer_cli.options import Debug, Output, session

if TYPE_CHECKING:
    from collections.abc import Mapping


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the project, and of the folder that is made.")],
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Make a project that runs as it is."""
    made = session(context, output=output, debug=debug)
    from stigmer_cli.references import to_slug
    from stigmer_cli.templates import project

    folder = Path(name)
    slug = to_slug(folder.name)
    if not slug or slug != folder.name:
        msg = f"{folder.name or name!r} cannot be the name of a project"
        raise InvalidInputError(msg, hint=f"use small letters, digits and hyphens, such as {slug or 'my-project'}")
    files = project(slug)
    _write(folder, files)
    if made.output.is_structured:
        value = {"name": slug, "folder": str(folder), "files": sorted(files)}
        console.result(console.structured(value, made.output))
    elif made.output is OutputFormat.NAME:
        console.result(str(folder))
    else:
        console.result("\n".join(str(folder / file) for file in files))
    console.note(f"run it with `stigmer run {folder}`")


def _write(folder: Path, files: Mapping[str, str]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder} is there already"
        raise ConflictError(msg, hint="choose another name; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"{folder} cannot be written: {error.strerror}"
        raise InvalidInputError(msg) from error
