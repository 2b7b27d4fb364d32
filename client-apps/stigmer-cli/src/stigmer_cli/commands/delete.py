"""`stigmer delete`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_reference
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import CliError, InvalidInputError
from stigmer_cli.options import Debug, Org, Output, Server, Yes, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stigmer_cli.options import Session
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Message, Resources

_SHOWN = 20
"""How many resources are named in a question."""


def delete(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND NAME...|KIND/NAME...|ID...",
            help="What to delete, one or several.",
            autocompletion=complete_reference,
        ),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option("-f", "--file", metavar="FILE", help="Delete what a file, a folder or - declares."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete what depends on it, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted, and delete nothing.")] = False,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="What is not there counts as deleted.")
    ] = False,
    yes: Yes = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Delete resources.

    What others depend on is kept, unless --force deletes those as well; a person at a terminal is then asked.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import references, runtime

    if bool(words) == bool(files):
        msg = "say what to delete: either names, or files with -f"
        raise InvalidInputError(msg, hint="`stigmer delete --help` shows how")
    named = references.parse_all(words, org=org) if words else _declared(files or [], org)
    work = _Work(made=made, force=force, dry_run=dry_run, ignore_missing=ignore_missing, yes=yes)
    try:
        runtime.run(work.main(named))
    finally:
        work.tell()


def _declared(files: list[str], org: str) -> list[Reference]:
    """Return what files declare, in the reverse of the order in which it can be applied."""
    from stigmer_cli.commands.validate import invalid
    from stigmer_cli.manifests import load, read_files
    from stigmer_cli.references import Reference

    manifests, problems = load(read_files(files), org=org)
    if problems:
        raise invalid(problems)
    return [Reference(kind=manifest.kind, org=manifest.org, slug=manifest.slug) for manifest in reversed(manifests)]


class _Work:
    """One deletion: what was done of it is told even when the rest fails."""

    def __init__(self, *, made: Session, force: bool, dry_run: bool, ignore_missing: bool, yes: bool) -> None:
        self._session = made
        self._force = force
        self._dry_run = dry_run
        self._ignore_missing = ignore_missing
        self._yes = yes
        self._deleted: list[Message] = []
        self._untold = 0
        self._is_done = False

    async def main(self, references: list[Reference]) -> None:
        """Delete one after the other; the first failure ends it."""
        from stigmer_cli.connection import connect
        from stigmer_cli.resources import Resources

        async with connect(self._session.environment, server=self._session.server, command="stigmer delete") as channel:
            resources = Resources(channel)
            found = [message for reference in references if (message := await self._find(resources, reference))]
            if self._force and not self._dry_run and not self._yes and sys.stdin.isatty():
                await self._ask(resources, found)
            gone: set[str] = set()
            for reference, message in found:
                if message.metadata.id in gone:
                    continue
                answer = await resources.delete(
                    reference.kind, message.metadata.id, force=self._force, dry_run=self._dry_run
                )
                self._untold += untold(answer)
                new = [entry for entry in answer.entries if entry.id not in gone]
                self._deleted += new
                gone.update(entry.id for entry in new)
        self._is_done = True

    async def _find(self, resources: Resources, reference: Reference) -> tuple[Reference, Message] | None:
        if not self._ignore_missing:
            return reference, await resources.get(reference)
        message = await resources.find(reference)
        if message is None:
            console.note(f"{reference} is not there")
            return None
        return reference, message

    async def _ask(self, resources: Resources, found: list[tuple[Reference, Message]]) -> None:
        """Name what goes because it depends on what was named, and ask."""
        named = {message.metadata.id for _, message in found}
        others: dict[str, Message] = {}
        more = 0
        for reference, message in found:
            answer = await resources.delete(reference.kind, message.metadata.id, force=True, dry_run=True)
            others |= {entry.id: entry for entry in answer.entries if entry.id not in named}
            more += untold(answer)
        if not others:
            return
        console.note(f"these depend on it and would be deleted, too: {some(list(others.values()), more)}")
        if not console.confirm("delete all of it?"):
            msg = "nothing was deleted"
            raise CliError(msg, hint="delete what depends on it first, or answer yes")

    def tell(self) -> None:
        """Print what was deleted, or would be."""
        output = self._session.output
        if output.is_structured and (self._deleted or self._is_done):
            value = {"dry_run": self._dry_run, "deleted": list(map(plain, self._deleted))}
            console.result(console.structured(value, output))
        elif self._deleted and not output.is_structured:
            ending = {True: " would be deleted", False: " deleted"}[self._dry_run]
            suffix = "" if output is OutputFormat.NAME else ending
            console.result("\n".join(f"{word(entry)}{suffix}" for entry in self._deleted))
        if self._untold:
            console.note(f"and {self._untold} more that are not listed here")
        if self._dry_run and self._is_done:
            console.note("dry run: nothing was deleted")


def untold(answer: Message) -> int:
    """Return how many resources a deletion deleted that its answer does not name; an older server names all."""
    return max(answer.total_count - len(answer.entries), 0)


def some(entries: Sequence[Message], more: int) -> str:
    """Return the names of a few resources, and how many there are beside them."""
    more += max(len(entries) - _SHOWN, 0)
    return ", ".join(map(word, entries[:_SHOWN])) + (f" and {more} more" if more else "")


def word(entry: Message) -> str:
    """Return what a resource is called, as commands take it."""
    kind = _kind(entry)
    return f"{kind.enum_name}/{entry.id if kind.enum_name.endswith('_execution') else entry.slug or entry.id}"


def plain(entry: Message) -> dict[str, Any]:
    """Return what a resource is called as plain data."""
    return {"kind": _kind(entry).name, "id": entry.id, "org": entry.org, "slug": entry.slug}


def _kind(entry: Message) -> Any:
    from stigmer_protos import descriptors

    return descriptors.kind_by_number(entry.kind)
