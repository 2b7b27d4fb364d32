"""`stigmer apply`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.errors import CliError, InvalidInputError
from stigmer_cli.options import Debug, Files, Org, Output, Selector, Server, Set, Yes, session

if TYPE_CHECKING:
    from stigmer_protos.descriptors import Kind

    from stigmer_cli.applying import Outcome
    from stigmer_cli.manifests import Manifest
    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message, Resources


def apply(
    context: typer.Context,
    files: Files,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the server try it and say what would change; nothing is kept.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what belongs to --set or --selector and is declared no more.")
    ] = False,
    set_: Set = "",
    selector: Selector = "",
    yes: Yes = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Create or update what files declare.

    All of them are checked before anything is stored.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.commands.validate import invalid, tell_doubts
    from stigmer_cli.manifests import load, read_files
    from stigmer_cli.pruning import SET_LABEL, check_selector, join_set

    if prune and not set_ and not selector:
        msg = "--prune does not know which resources belong to these files"
        raise InvalidInputError(msg, hint="name them as a --set NAME, or give the labels they have with --selector")
    if selector and not prune:
        msg = "--selector says what --prune may delete"
        raise InvalidInputError(msg, hint="leave it out, or write --prune")
    if prune and not yes and not dry_run and not sys.stdin.isatty():
        msg = "--prune deletes, and there is nobody to ask"
        raise InvalidInputError(msg, hint="look at --dry-run, then write --yes")
    manifests, problems = load(read_files(files), org=org)
    if problems:
        raise invalid(problems)
    tell_doubts(made, manifests)
    if set_:
        join_set(manifests, set_)
        selector = f"{SET_LABEL}={set_},{selector}".rstrip(",")
    if prune:
        check_selector(manifests, selector)
    work = _Work(made=made, manifests=manifests, dry_run=dry_run, pruned=selector if prune else "", yes=yes)
    try:
        runtime.run(work.main())
    finally:
        work.tell()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """What became of one resource."""

    kind: str
    kind_word: str
    name: str
    slug: str
    org: str
    id: str
    status: str


class _Work:
    """One apply: what was done of it is told even when the rest fails."""

    def __init__(self, *, made: Session, manifests: list[Manifest], dry_run: bool, pruned: str, yes: bool) -> None:
        self._session = made
        self._manifests = manifests
        self._dry_run = dry_run
        self._pruned = pruned
        self._yes = yes
        self._lines: list[_Line] = []
        self._is_done = False

    async def main(self) -> None:
        """Apply everything, then prune."""
        from stigmer_cli.applying import apply_each
        from stigmer_cli.connection import connect
        from stigmer_cli.resources import Resources

        async with connect(self._session.environment, server=self._session.server, command="stigmer apply") as channel:
            resources = Resources(channel)
            async for outcome in apply_each(resources, self._manifests, dry_run=self._dry_run):
                self._lines.append(_applied(outcome))
            if self._pruned:
                await self._prune(resources)
        self._is_done = True

    async def _prune(self, resources: Resources) -> None:
        from stigmer_cli.pruning import surplus

        found = await surplus(resources, self._manifests, self._pruned)
        if not found:
            return
        if not self._dry_run and not self._yes:
            _ask(found)
        for kind, message in found:
            await resources.delete(kind, message.metadata.id, dry_run=self._dry_run)
            self._lines.append(_deleted(kind, message))

    def tell(self) -> None:
        """Print what was done, or would be."""
        output, lines = self._session.output, self._lines
        if output is OutputFormat.NAME:
            if lines:
                console.result("\n".join(f"{line.kind_word}/{line.slug}" for line in lines))
        elif output.is_structured and (lines or self._is_done):
            console.result(
                console.structured({"dry_run": self._dry_run, "resources": list(map(_plain, lines))}, output)
            )
        elif lines and not output.is_structured:
            rows = [(line.kind, line.name, line.status, line.id or "-") for line in lines]
            console.result(console.table(("KIND", "NAME", "WOULD BE" if self._dry_run else "STATUS", "ID"), rows))
        if self._dry_run and self._is_done:
            console.note("dry run: nothing was changed")
        elif lines and not self._is_done:
            console.note(f"{len(lines)} of {len(self._manifests)} were done before this:", style=Style.YELLOW)


def _ask(found: list[tuple[Kind, Message]]) -> None:
    names = [f"{kind.enum_name}/{message.metadata.slug}" for kind, message in found]
    console.note(f"declared no more, and to be deleted: {', '.join(names)}")
    if not console.confirm("delete them?"):
        msg = "nothing was deleted"
        raise CliError(msg, hint="leave --prune out to keep them")


def _applied(outcome: Outcome) -> _Line:
    manifest = outcome.manifest
    return _Line(
        kind=manifest.kind.name,
        kind_word=manifest.kind.enum_name,
        name=manifest.name,
        slug=manifest.slug,
        org=manifest.org,
        id=outcome.id,
        status=outcome.change.value,
    )


def _deleted(kind: Kind, message: Message) -> _Line:
    metadata = message.metadata
    return _Line(
        kind=kind.name,
        kind_word=kind.enum_name,
        name=metadata.name,
        slug=metadata.slug,
        org=metadata.org,
        id=metadata.id,
        status="Deleted",
    )


def _plain(line: _Line) -> dict[str, Any]:
    return {"kind": line.kind, "name": line.name, "org": line.org, "id": line.id or None, "status": line.status}
