"""`stigmer apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.applying import Outcome
    from stigmer_cli.manifests import Manifest
    from stigmer_cli.options import Session


def apply(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Option("-f", "--file", metavar="FILE", help="A file, a folder, or - for standard input.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Create or update what files declare. All of them are checked before anything is stored."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.commands.validate import invalid
    from stigmer_cli.manifests import load, read_files

    manifests, problems = load(read_files(files), org=org)
    if problems:
        raise invalid(problems)
    outcomes = runtime.run(_apply(made, manifests, dry_run=dry_run))
    console.result(_told(outcomes, made.output, dry_run=dry_run))
    if dry_run:
        console.note("dry run: nothing was changed")


async def _apply(made: Session, manifests: list[Manifest], *, dry_run: bool) -> list[Outcome]:
    from stigmer_cli.applying import apply_all, compare_all
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources

    async with connect(made.environment, server=made.server, command="stigmer apply") as channel:
        work = compare_all if dry_run else apply_all
        return await work(Resources(channel), manifests)


def _told(outcomes: list[Outcome], output: OutputFormat, *, dry_run: bool) -> str:
    if output is OutputFormat.NAME:
        return "\n".join(f"{outcome.manifest.kind.enum_name}/{outcome.manifest.slug}" for outcome in outcomes)
    if output is OutputFormat.TABLE:
        rows = [
            (outcome.manifest.kind.name, outcome.manifest.name, outcome.change.value, outcome.id or "-")
            for outcome in outcomes
        ]
        return console.table(("KIND", "NAME", "WOULD BE" if dry_run else "STATUS", "ID"), rows)
    listed = [
        {
            "kind": outcome.manifest.kind.name,
            "name": outcome.manifest.name,
            "org": outcome.manifest.org,
            "id": outcome.id or None,
            "status": outcome.change.value,
        }
        for outcome in outcomes
    ]
    return console.structured({"dry_run": dry_run, "resources": listed}, output)
