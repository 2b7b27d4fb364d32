"""`stigmer env`: the variables and secrets of environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_environment
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import InvalidInputError, NotFoundError
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from collections.abc import Callable

    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message
    from stigmer_cli.variables import Entry

app = typer.Typer(no_args_is_help=True, help="Set, show and remove variables and secrets of environments.")

Environment = Annotated[
    str, typer.Argument(metavar="ENVIRONMENT", help="A name, org/name or id.", autocompletion=complete_environment)
]


@app.command(name="set")
def set_(
    context: typer.Context,
    environment: Environment,
    variables: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Variables.")] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret", metavar="NAME[=@FILE|=-]", help="A secret: asked for, or from a file or standard input."
        ),
    ] = None,
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="What the environment is for.")
    ] = "",
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Set variables and secrets; the environment is made where there is none.

    The values of secrets are never taken from the command line, and never shown.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.variables import read_secrets, read_variables

    entries = [*read_variables(variables or []), *read_secrets(secret or [])]
    if not entries and not description:
        msg = "there is nothing to set"
        raise InvalidInputError(msg, hint=f"write `stigmer env set {environment} NAME=VALUE --secret NAME`")

    def change(message: Message) -> None:
        message.spec.description = description or message.spec.description
        for entry in entries:
            _put(message, entry)

    _tell(made, _change(made, environment, org, change, create=True))


@app.command(name="unset")
def unset(
    context: typer.Context,
    environment: Environment,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Variables and secrets.")],
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Remove variables and secrets; all of the names must be there."""
    made = session(context, output=output, debug=debug, server=server)

    def change(message: Message) -> None:
        for name in names:
            _require(message, name)
        for name in set(names):
            del message.spec.data[name]

    _tell(made, _change(made, environment, org, change))


@app.command(name="get")
def get(
    context: typer.Context,
    environment: Environment,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A variable; none shows them all.")] = "",
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Show variables, and which secrets there are; or print the value of one variable."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    message = runtime.run(_get(made, environment, org))
    if not name:
        _tell(made, message, changed=False)
        return
    _require(message, name)
    entry = message.spec.data[name]
    if made.output.is_structured:
        console.result(console.structured({"name": name, **_entry(entry)}, made.output))
    elif made.output is OutputFormat.NAME:
        console.result(name)
    elif entry.is_secret:
        msg = f"{name} is a secret, and is shown to nobody but a run that uses it"
        raise InvalidInputError(msg, hint=f"`stigmer env set {environment} --secret {name}` gives it a new value")
    else:
        console.result(entry.value)


@app.command(name="list")
def list_(
    context: typer.Context,
    org: Annotated[str, typer.Option("--org", metavar="ORG", help="Only this organization [default: all].")] = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """List the environments, newest first."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    found = runtime.run(_list(made, org))
    rows = (
        (
            message.metadata.name,
            message.metadata.org,
            str(sum(not entry.is_secret for entry in message.spec.data.values())),
            str(sum(entry.is_secret for entry in message.spec.data.values())),
            message.spec.description,
        )
        for message in found
    )
    console.entries(
        made.output,
        items=map(_plain, found),
        names=(f"environment/{message.metadata.slug}" for message in found),
        headings=("NAME", "ORG", "VARIABLES", "SECRETS", "DESCRIPTION"),
        rows=rows,
    )
    if not found:
        console.note("there is no environment yet")


def _put(message: Message, entry: Entry) -> None:
    there = message.spec.data.get(entry.name) if entry.name in message.spec.data else None
    if there is not None and there.is_secret and not entry.is_secret:
        msg = f"{entry.name} is a secret, and {entry.name}=VALUE would show it to everyone"
        raise InvalidInputError(
            msg, hint=f"write --secret {entry.name}, or remove it first with `stigmer env unset … {entry.name}`"
        )
    target = message.spec.data[entry.name]
    target.value, target.is_secret = entry.value, entry.is_secret


def _require(message: Message, name: str) -> None:
    if name not in message.spec.data:
        msg = f"environment {message.metadata.slug!r} has no variable {name!r}"
        names = ", ".join(sorted(message.spec.data)) or "none"
        raise NotFoundError(msg, hint=f"variables: {names}")


def _change(
    made: Session, environment: str, org: str, change: Callable[[Message], None], *, create: bool = False
) -> Message:
    from stigmer_cli import kinds, references, runtime

    reference = references.parse(environment, kind=kinds.require("environment"), org=org)

    async def work() -> Message:
        from stigmer_cli.connection import connect
        from stigmer_cli.resources import Resources
        from stigmer_cli.variables import change_environment

        async with connect(made.environment, server=made.server, command="stigmer env") as channel:
            return await change_environment(Resources(channel), reference, change, create=create)

    return runtime.run(work())


async def _get(made: Session, environment: str, org: str) -> Message:
    from stigmer_cli import kinds, references
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources

    reference = references.parse(environment, kind=kinds.require("environment"), org=org)
    async with connect(made.environment, server=made.server, command="stigmer env") as channel:
        return await Resources(channel).get(reference)


async def _list(made: Session, org: str) -> list[Message]:
    from stigmer_cli import kinds
    from stigmer_cli.connection import connect
    from stigmer_cli.messages import from_json
    from stigmer_cli.resources import Listing, Resources

    kind = kinds.require("environment")
    async with connect(made.environment, server=made.server, command="stigmer env") as channel:
        return [from_json(kind, entry) async for entry in Resources(channel).list(Listing(kind=kind, org=org))]


def _tell(made: Session, message: Message, *, changed: bool = True) -> None:
    """Print an environment, and after a change what that did."""
    from stigmer_cli.changes import change_of

    if made.output.is_structured:
        told = {"status": change_of(message).value} if changed else {}
        console.result(console.structured({**_plain(message), **told}, made.output))
        return
    if made.output is OutputFormat.NAME:
        console.result(f"environment/{message.metadata.slug}")
        return
    rows = [
        (name, "(secret)" if entry.is_secret else _on_one_line(entry.value), entry.description)
        for name, entry in sorted(message.spec.data.items())
    ]
    console.result(console.table(("NAME", "VALUE", ""), rows))
    if changed:
        console.note(f"environment/{message.metadata.slug} {change_of(message).value.lower()}")


def _on_one_line(value: str) -> str:
    first, *rest = value.split("\n")
    return f"{first} … and {len(rest)} more lines" if rest else first


def _plain(message: Message) -> dict[str, Any]:
    metadata = message.metadata
    return {
        "name": metadata.name,
        "org": metadata.org,
        "id": metadata.id,
        "version": metadata.version.id,
        "description": message.spec.description,
        "data": {name: _entry(entry) for name, entry in sorted(message.spec.data.items())},
    }


def _entry(entry: Message) -> dict[str, Any]:
    return {
        "value": None if entry.is_secret else entry.value,
        "is_secret": entry.is_secret,
        "description": entry.description,
    }
