"""`stigmer rollback`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_reference
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.changes import Change
    from stigmer_cli.options import Session
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Message


def rollback(
    context: typer.Context,
    reference: Annotated[
        str,
        typer.Argument(metavar="KIND/NAME|ID", help="Which resource.", autocompletion=complete_reference),
    ],
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="As `stigmer history` tells it, or a tag or hash of a skill.")
    ],
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="Why; kept with the version.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Make an earlier version of a resource the present one.

    It becomes a new version; those in between stay.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import references, runtime
    from stigmer_cli.changes import Change

    found = references.parse(reference, kind=None, org=org)
    done = runtime.run(_rollback(made, found, version, message, dry_run=dry_run))
    after = done.after
    name = f"{found.kind.enum_name}/{after.metadata.slug}"
    if made.output.is_structured:
        value = {
            "kind": found.kind.name,
            "id": after.metadata.id,
            "org": after.metadata.org,
            "name": after.metadata.name,
            "from": done.before.metadata.version.id,
            "to": version,
            "version": after.metadata.version.id,
            "status": done.change.value,
            "dry_run": dry_run,
        }
        console.result(console.structured(value, made.output))
    elif made.output is OutputFormat.NAME:
        console.result(name)
    elif done.change is Change.UNCHANGED:
        console.result(f"{name} is as it was in version {version} already")
    elif dry_run:
        _show(done, name, version)
    else:
        console.result(f"{name} is as it was in version {version} again, as version {after.metadata.version.id}")
    if dry_run:
        console.note("dry run: nothing was changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A resource before and after."""

    before: Message
    after: Message

    @property
    def change(self) -> Change:
        """What became of it."""
        from stigmer_cli.changes import Change

        same = self.before.metadata.version.id == self.after.metadata.version.id
        return Change.UNCHANGED if same else Change.UPDATED


async def _rollback(made: Session, reference: Reference, version: str, message: str, *, dry_run: bool) -> _Done:
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources
    from stigmer_cli.revisions import Revisions

    async with connect(made.environment, server=made.server, command="stigmer rollback") as channel:
        before = await Resources(channel).get(reference)
        after = await Revisions(channel).rollback(
            reference.kind, before.metadata.id, version, message=message, dry_run=dry_run
        )
        return _Done(before=before, after=after)


def _show(done: _Done, name: str, version: str) -> None:
    from stigmer_cli.commands.diff import colored
    from stigmer_cli.comparing import unified

    names = (f"{name} version {done.before.metadata.version.id}", f"{name} version {version}")
    text = unified(done.before, done.after, names=names)
    for line in text.splitlines():
        console.result(colored(line))
    if not text:
        console.note("nothing that can be shown would change; secrets are not shown")
