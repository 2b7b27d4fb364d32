"""`stigmer delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Message


def delete(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="KIND NAME...|KIND/NAME...|ID...", help="What to delete, one or several.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Delete what depends on it, too.")] = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Delete resources."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.messages import to_plain

    references = _references(words, org)
    deleted = runtime.run(_delete(made, references, force=force))
    if made.output in {OutputFormat.JSON, OutputFormat.YAML}:
        console.result(console.structured({"items": [to_plain(message) for message in deleted]}, made.output))
        return
    for reference, message in zip(references, deleted, strict=True):
        name = f"{reference.kind.enum_name}/{message.metadata.slug or message.metadata.id}"
        console.result(name if made.output is OutputFormat.NAME else f"{name} deleted")


def _references(words: list[str], org: str) -> list[Reference]:
    from stigmer_cli import kinds, references
    from stigmer_cli.errors import InvalidInputError

    kind = None if "/" in words[0] or references.kind_of_id(words[0]) else kinds.require(words[0])
    names = words if kind is None else words[1:]
    if not names:
        msg = "it does not say which resource to delete"
        raise InvalidInputError(msg, hint=f"write `stigmer delete {words[0]} NAME`")
    return [references.parse(name, kind=kind, org=org) for name in names]


async def _delete(made: Session, references: list[Reference], *, force: bool) -> list[Message]:
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources

    async with connect(made.environment, server=made.server, command="stigmer delete") as channel:
        resources = Resources(channel)
        return [await resources.delete(reference, force=force) for reference in references]
