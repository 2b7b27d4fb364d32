"""`stigmer org`: the organizations that resources belong to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_organization
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import CliError, NotFoundError
from stigmer_cli.options import Debug, Output, Server, Yes, session

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message

app = typer.Typer(no_args_is_help=True, help="List, make and delete organizations.")

_MESSAGE = "ai.stigmer.tenancy.organization.v1.Organization"
_COMMANDS = "ai.stigmer.tenancy.organization.v1.OrganizationCommandController"
_QUERIES = "ai.stigmer.tenancy.organization.v1.OrganizationQueryController"


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is for.")] = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Make an organization; the operator's alone, where callers are told apart."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    message = runtime.run(_create(made, name, description))
    slug = message.metadata.slug
    console.outcome(made.output, _plain(message), name=f"organization/{slug}", text=f"organization/{slug} created")
    console.note(f"`stigmer key create NAME --org {slug}` makes a key for it")


@app.command(name="list")
def list_(context: typer.Context, output: Output = None, debug: Debug = False, server: Server = "") -> None:
    """List the organizations that you may see."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    found = runtime.run(_list(made))
    rows = (
        (message.metadata.slug, message.metadata.name, message.metadata.id, message.spec.description)
        for message in found
    )
    console.entries(
        made.output,
        items=map(_plain, found),
        names=(f"organization/{message.metadata.slug}" for message in found),
        headings=("ORG", "NAME", "ID", "DESCRIPTION"),
        rows=rows,
    )
    if not found:
        console.note("there is no organization yet")


@app.command()
def delete(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The organization, by name or id.", autocompletion=complete_organization),
    ],
    force: Annotated[bool, typer.Option("--force", help="Delete its resources, too.")] = False,
    yes: Yes = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Delete an organization and its keys.

    One that has resources is kept, unless --force deletes those as well; a person at a terminal is asked before.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.commands.delete import plain, untold, word

    answer = runtime.run(_delete(made, name, force=force, yes=yes))
    deleted = answer.entries
    if made.output.is_structured:
        console.result(console.structured({"deleted": list(map(plain, deleted))}, made.output))
    else:
        suffix = "" if made.output is OutputFormat.NAME else " deleted"
        console.result("\n".join(f"{word(entry)}{suffix}" for entry in deleted))
    if more := untold(answer):
        console.note(f"and {more} more that are not listed here")


async def _create(made: Session, name: str, description: str) -> Message:
    from stigmer_protos import descriptors

    from stigmer_cli.connection import connect

    request: Message = descriptors.message_type(_MESSAGE)(
        api_version="tenancy.stigmer.ai/v1",
        kind="Organization",
        metadata={"name": name},
        spec={"description": description},
    )
    async with connect(made.environment, server=made.server, command="stigmer org") as channel:
        return await channel.service(_COMMANDS).unary("create", request)


async def _list(made: Session) -> list[Message]:
    from stigmer_cli.connection import connect

    async with connect(made.environment, server=made.server, command="stigmer org") as channel:
        return await _organizations(channel)


async def _organizations(channel: Channel) -> list[Message]:
    answer: Message = await channel.service(_QUERIES).unary("findMyOrganizations", {})
    return sorted(answer.entries, key=lambda message: message.metadata.slug)


async def _delete(made: Session, name: str, *, force: bool, yes: bool) -> Message:
    from stigmer_protos import descriptors

    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources

    kind = descriptors.kind_by_enum_name("organization")
    async with connect(made.environment, server=made.server, command="stigmer org") as channel:
        identifier = _one(name, await _organizations(channel)).metadata.id
        resources = Resources(channel)
        if not yes and sys.stdin.isatty():
            _ask(name, await resources.delete(kind, identifier, force=force, dry_run=True))
        return await resources.delete(kind, identifier, force=force)


def _one(name: str, organizations: list[Message]) -> Message:
    """Return the organization called so. Names that people read may be given twice, so they do not count."""
    for message in organizations:
        if name in (message.metadata.slug, message.metadata.id):
            return message
    msg = f"there is no organization {name!r}"
    raise NotFoundError(msg, hint="`stigmer org list` lists those there are")


def _ask(name: str, answer: Message) -> None:
    """Name what goes along, and ask."""
    from stigmer_cli.commands.delete import some, untold

    if others := answer.entries[:-1]:
        console.note(f"these belong to it and would be deleted, too: {some(others, untold(answer))}")
    if not console.confirm(f"delete the organization {name}?"):
        msg = "nothing was deleted"
        raise CliError(msg)


def _plain(message: Message) -> dict[str, Any]:
    return {
        "id": message.metadata.id,
        "org": message.metadata.slug,
        "name": message.metadata.name,
        "description": message.spec.description,
    }
