"""`stigmer diff`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.options import Debug, Files, Org, Output, Server, Set, session

if TYPE_CHECKING:
    from stigmer_cli.comparing import Comparison
    from stigmer_cli.manifests import Manifest
    from stigmer_cli.options import Session

DIFFERENT = 1
_TROUBLE = 2
_STYLES = {"+": Style.GREEN, "-": Style.RED, "@": Style.CYAN}


def diff(
    context: typer.Context,
    files: Files,
    set_: Set = "",
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Show what `stigmer apply` would change.

    The server tries it and keeps nothing. Exit code 0: nothing differs; 1: something does; above: it could not be told.
    """
    from stigmer_cli import runtime

    try:
        code = _diff(session(context, output=output, debug=debug, server=server), files, set_, org)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not end in the code that means a difference
        code = max(runtime.report(error), _TROUBLE)
    raise typer.Exit(code)


def _diff(made: Session, files: list[str], set_: str, org: str) -> int:
    from stigmer_cli import runtime
    from stigmer_cli.changes import Change
    from stigmer_cli.commands.validate import invalid
    from stigmer_cli.manifests import load, read_files
    from stigmer_cli.pruning import join_set

    manifests, problems = load(read_files(files), org=org)
    if problems:
        raise invalid(problems)
    if set_:
        join_set(manifests, set_)
    compared = runtime.run(_compare(made, manifests))
    different = [comparison for comparison in compared if comparison.change is not Change.UNCHANGED]
    _tell(made.output, compared, different)
    return DIFFERENT if different else 0


async def _compare(made: Session, manifests: list[Manifest]) -> list[Comparison]:
    from stigmer_cli.comparing import compare
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources

    async with connect(made.environment, server=made.server, command="stigmer diff") as channel:
        resources = Resources(channel)
        return [await compare(resources, manifest) for manifest in manifests]


def _tell(output: OutputFormat, compared: list[Comparison], different: list[Comparison]) -> None:
    if output.is_structured:
        listed = [
            {
                "kind": comparison.manifest.kind.name,
                "name": comparison.manifest.name,
                "org": comparison.manifest.org,
                "id": comparison.id or None,
                "file": comparison.manifest.source,
                "status": comparison.change.value,
                "diff": comparison.text,
            }
            for comparison in compared
        ]
        console.result(console.structured({"different": bool(different), "resources": listed}, output))
    elif output is OutputFormat.NAME:
        for comparison in different:
            console.result(f"{comparison.manifest.kind.enum_name}/{comparison.manifest.slug}")
    else:
        for comparison in different:
            for line in comparison.text.splitlines():
                console.result(colored(line))
            if not comparison.text:
                console.note(f"{comparison.manifest.kind.enum_name}/{comparison.manifest.slug} would be written again")
        if different and len(compared) > 1:
            console.note(f"{len(different)} of {len(compared)} differ")


def colored(line: str) -> str:
    """Return a line of a diff as a terminal shows it."""
    return console.styled(line, _STYLES.get(line[:1]), sys.stdout)
