"""`stigmer key`: API keys, with which programs and people sign in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_key, complete_organization
from stigmer_cli.errors import ConflictError, InvalidInputError, NotFoundError
from stigmer_cli.options import Debug, Output, Server, session

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

_MESSAGE = "ai.stigmer.iam.apikey.v1.ApiKey"
_COMMANDS = "ai.stigmer.iam.apikey.v1.ApiKeyCommandController"
_QUERIES = "ai.stigmer.iam.apikey.v1.ApiKeyQueryController"
_DEFAULT_LIFE = "90d"
_SPAN = re.compile(r"([0-9]{1,9})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ROLE_PREFIX = "API_KEY_ROLE_"


class KeyRole(StrEnum):
    """What a key may do in its organization."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"
    RUNNER = "runner"


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called, such as the program it is for.")],
    org: Annotated[
        str,
        typer.Option(
            "--org",
            metavar="ORG",
            help="Organization it is for; a runner's is for none [default: that of your own key].",
            autocompletion=complete_organization,
        ),
    ] = "",
    role: Annotated[
        KeyRole, typer.Option("--role", help="What it may do there.", metavar="viewer|editor|owner|runner")
    ] = KeyRole.EDITOR,
    expires: Annotated[
        str,
        typer.Option("--expires", metavar="TIME", help=f"90d, 12h or 2026-01-31T12:00:00Z [default: {_DEFAULT_LIFE}]."),
    ] = "",
    never_expires: Annotated[bool, typer.Option("--never-expires", help="It works until it is revoked.")] = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Make a key and print it, this once: the server keeps a hash of it alone."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    if expires and never_expires:
        msg = "--expires and --never-expires contradict each other"
        raise InvalidInputError(msg, hint="leave one of them out")
    end = None if never_expires else _end(expires or _DEFAULT_LIFE)
    message = runtime.run(_create(made, name, org, role, end))
    key, identifier = message.spec.key_hash, message.metadata.id
    until = _expires_at(message)
    if made.output.is_structured:
        value = {"id": identifier, "name": message.metadata.name, "key": key, "expires_at": until or None}
        console.result(console.structured(value, made.output))
    else:
        # The key also where only a name was asked for: whoever did not get it here gets it nowhere.
        console.result(key)
    end_told = f"works until {until}" if until else "works until it is revoked"
    console.note(f"this is the key {identifier}, and it is not shown again: keep it safe. It {end_told}")


@app.command(name="list")
def list_(
    context: typer.Context,
    org: Annotated[
        str,
        typer.Option(
            "--org",
            metavar="ORG",
            help="Only this organization [default: all].",
            autocompletion=complete_organization,
        ),
    ] = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """List the keys that you may see: as an owner those of your organization, otherwise your own."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.listing import moment

    found = runtime.run(_list(made, org))
    rows = (
        (
            message.metadata.name,
            message.metadata.id,
            message.metadata.org or "-",
            _role(message),
            f"…{message.spec.fingerprint}",
            moment(_used_at(message)) or "never",
            moment(_expires_at(message)) or "never",
        )
        for message in found
    )
    console.entries(
        made.output,
        items=map(_plain, found),
        names=(message.metadata.id for message in found),
        headings=("NAME", "ID", "ORG", "ROLE", "FINGERPRINT", "LAST USED", "EXPIRES"),
        rows=rows,
    )
    if not found:
        console.note("there is no key yet")


@app.command()
def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="ID|NAME", help="The key.", autocompletion=complete_key)],
    org: Annotated[
        str,
        typer.Option(
            "--org",
            metavar="ORG",
            help="Organization of the key; tells keys of one name apart.",
            autocompletion=complete_organization,
        ),
    ] = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """End a key: from now on it lets nobody in, and what it has open ends."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    message = runtime.run(_revoke(made, key, org))
    identifier = message.metadata.id
    text = f"{identifier} ({message.metadata.name}) revoked"
    console.outcome(made.output, {"revoked": _plain(message)}, name=identifier, text=text)


def _end(text: str) -> datetime:
    """Return the moment that a span from now, or a time, means."""
    try:
        if match := _SPAN.fullmatch(text):
            return datetime.now(UTC).replace(microsecond=0) + timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"--expires {text}: that is no time"
        raise InvalidInputError(msg, hint="write 90d, 12h or 2026-01-31T12:00:00Z, or --never-expires") from None


async def _create(made: Session, name: str, org: str, role: KeyRole, end: datetime | None) -> Message:
    from stigmer_protos import descriptors

    from stigmer_cli.connection import connect

    request: Message = descriptors.message_type(_MESSAGE)(
        api_version="iam.stigmer.ai/v1",
        kind="ApiKey",
        metadata={"name": name, "org": org},
        spec={"role": f"{_ROLE_PREFIX}{role.name}", "never_expires": end is None},
    )
    if end is not None:
        request.spec.expires_at.FromDatetime(end)
    async with connect(made.environment, server=made.server, command="stigmer key") as channel:
        return await channel.service(_COMMANDS).unary("create", request)


async def _list(made: Session, org: str) -> list[Message]:
    from stigmer_cli.connection import connect

    async with connect(made.environment, server=made.server, command="stigmer key") as channel:
        return await _keys(channel, org)


async def _keys(channel: Channel, org: str) -> list[Message]:
    answer: Message = await channel.service(_QUERIES).unary("findAll", {})
    found = [message for message in answer.entries if org in ("", message.metadata.org)]
    return sorted(found, key=lambda message: (message.metadata.org, message.metadata.name, message.metadata.id))


async def _revoke(made: Session, key: str, org: str) -> Message:
    from stigmer_cli.connection import connect

    async with connect(made.environment, server=made.server, command="stigmer key") as channel:
        identifier = _one(key, await _keys(channel, org)).metadata.id
        return await channel.service(_COMMANDS).unary("delete", {"value": identifier})


def _one(key: str, keys: list[Message]) -> Message:
    """Return the key that has the id, or else the only one of the name."""
    found = [message for message in keys if message.metadata.id == key] or [
        message for message in keys if key in (message.metadata.name, message.metadata.slug)
    ]
    if not found:
        msg = f"there is no key {key!r}"
        raise NotFoundError(msg, hint="`stigmer key list` lists those there are")
    if len(found) > 1:
        msg = f"{len(found)} keys are called {key!r}"
        identifiers = ", ".join(message.metadata.id for message in found)
        raise ConflictError(msg, hint=f"name one by its id: {identifiers}")
    return found[0]


def _plain(message: Message) -> dict[str, Any]:
    return {
        "id": message.metadata.id,
        "name": message.metadata.name,
        "org": message.metadata.org,
        "role": _role(message),
        "fingerprint": message.spec.fingerprint,
        "last_used_at": _used_at(message) or None,
        "expires_at": _expires_at(message) or None,
    }


def _role(message: Message) -> str:
    values = message.spec.DESCRIPTOR.fields_by_name["role"].enum_type.values_by_number
    return values[message.spec.role].name.removeprefix(_ROLE_PREFIX).lower() if message.spec.role in values else "?"


def _expires_at(message: Message) -> str:
    """Return when the key ends in RFC 3339, "" when it does not."""
    return message.spec.expires_at.ToJsonString() if message.spec.HasField("expires_at") else ""


def _used_at(message: Message) -> str:
    return message.status.last_used_at.ToJsonString() if message.status.HasField("last_used_at") else ""
