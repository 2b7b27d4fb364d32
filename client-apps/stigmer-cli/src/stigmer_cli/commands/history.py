"""`stigmer history`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_reference
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Message


def history(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="KIND NAME|KIND/NAME|ID", help="Which resource.", autocompletion=complete_reference),
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The newest so many; 0: all.")] = 0,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """List the versions of a resource, newest first."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import references, runtime

    revisions = runtime.run(_list(made, references.parse_words(words, org=org), limit))
    console.result(told(revisions, made.output))


async def _list(made: Session, reference: Reference, limit: int) -> list[Message]:
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources
    from stigmer_cli.revisions import Revisions

    async with connect(made.environment, server=made.server, command="stigmer history") as channel:
        identifier = (await Resources(channel).get(reference)).metadata.id
        found: list[Message] = []
        async for revision in Revisions(channel).list(reference.kind, identifier):
            found.append(revision)
            if len(found) == limit:
                break
        return found


def told(revisions: list[Message], output: OutputFormat) -> str:
    """Return versions as they are printed."""
    if output.is_structured:
        return console.structured({"items": [plain(revision) for revision in revisions]}, output)
    if output is OutputFormat.NAME:
        return "\n".join(revision.version for revision in revisions)
    has_tag = any(revision.tag for revision in revisions)
    rows = [
        (
            f"{revision.version}{' *' if revision.current else ''}",
            *((revision.tag or "-", revision.hash[:12] or "-") if has_tag else ()),
            revision.event.replace("_", " "),
            _moment(revision),
            revision.actor or "-",
            revision.message,
        )
        for revision in revisions
    ]
    return console.table(("VERSION", *(("TAG", "HASH") if has_tag else ()), "EVENT", "WHEN", "BY", "WHY"), rows)


def plain(revision: Message) -> dict[str, Any]:
    """Return a version as plain data."""
    return {
        "version": revision.version,
        "event": revision.event,
        "tag": revision.tag or None,
        "hash": revision.hash or None,
        "actor": revision.actor,
        "message": revision.message,
        "created_at": revision.created_at.ToJsonString() if revision.HasField("created_at") else None,
        "current": revision.current,
    }


def _moment(revision: Message) -> str:
    from stigmer_cli.listing import moment

    return moment(revision.created_at.ToJsonString()) if revision.HasField("created_at") else "-"
