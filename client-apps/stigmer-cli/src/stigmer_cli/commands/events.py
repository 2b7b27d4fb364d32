"""`stigmer events`: publishing and following CloudEvents."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Data, Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stigmer_grpc.channel import Channel

    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message

app = typer.Typer(no_args_is_help=True, help="Publish and follow events, as CloudEvents 1.0.")

_SERVICE = "ai.stigmer.events.v1.EventController"
_MOST = 1000
"""Events in one request, and on one page."""
Source = Annotated[str, typer.Option("--source", metavar="URI", help="Only events from this source.")]


@app.command()
def publish(
    context: typer.Context,
    type_: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="What happened, such as shop.order.placed.")
    ] = "",
    source: Annotated[str, typer.Option("--source", metavar="URI", help="Where it happened.")] = "/stigmer/cli",
    subject: Annotated[str, typer.Option("--subject", metavar="SUBJECT", help="What it happened to.")] = "",
    id_: Annotated[
        str, typer.Option("--id", metavar="ID", help="Names it: published again, it counts once [default: a new one].")
    ] = "",
    data: Data = None,
    extension: Annotated[
        list[str] | None, typer.Option("--extension", metavar="NAME=VALUE", help="A further attribute.")
    ] = None,
    file: Annotated[
        str,
        typer.Option(
            "-f", "--file", metavar="FILE", help="Events in JSON: one, a list, or one a line; - for standard input."
        ),
    ] = "",
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Publish an event, or those of a file. All are taken or none; one that is known already is not taken again."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    if bool(file) == bool(type_):
        msg = "say what to publish: either --type and what goes with it, or a file with -f"
        raise InvalidInputError(msg, hint="`stigmer events publish --help` shows how")
    given = {"type": type_, "source": source, "subject": subject, "id": id_}
    events = _read(file) if file else [_one(given, data, extension or [])]
    if len(events) > _MOST:
        msg = f"{len(events)} events are too many at once"
        raise InvalidInputError(msg, hint=f"publish {_MOST} at the most, so that all of them are taken or none")
    answer = runtime.run(_publish(made, _org(org), events))
    known = f", {answer.duplicates} known already" if answer.duplicates else ""
    console.outcome(
        made.output,
        {"accepted": answer.accepted, "duplicates": answer.duplicates, "resume_token": answer.resume_token},
        name=answer.resume_token,
        text=f"{answer.accepted} published{known}",
    )


@app.command(name="list")
def list_(
    context: typer.Context,
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="Only events of this type.")] = "",
    source: Source = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The newest so many; 0: all.")] = 50,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """List the events that are kept, newest first."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.cloud_events import to_json

    found = [to_json(event) for event in runtime.run(_list(made, _org(org), type_, source, limit))]
    console.entries(
        made.output,
        items=found,
        names=(event["id"] for event in found),
        headings=("TIME", "TYPE", "SOURCE", "SUBJECT", "ID"),
        rows=map(_row, found),
    )
    if not found:
        console.note("there is no event that fits" if type_ or source else "there is no event yet")


@app.command()
def subscribe(
    context: typer.Context,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only events of these types; `shop.*` for all that begin so."),
    ] = None,
    source: Source = "",
    subject: Annotated[str, typer.Option("--subject", metavar="SUBJECT", help="Only events about this.")] = "",
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin with the oldest event that is kept, not the next one.")
    ] = False,
    resume_token: Annotated[
        str, typer.Option("--resume-token", metavar="TOKEN", help="Go on after the event that came with it.")
    ] = "",
    resume_file: Annotated[
        Path | None,
        typer.Option(
            "-f", "--resume-file", metavar="FILE", help="Keep there how far it got, and go on from there next time."
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="End after so many; 0: when interrupted.")] = 0,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Print events as they come, one a line, also over lost connections; every one once and in order."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    if resume_file is not None and not resume_token:
        resume_token = _token_in(resume_file)
    request = {
        "org": _org(org),
        "types": types or [],
        "source": source,
        "subject": subject,
        "from_start": from_start,
    }
    runtime.run(_subscribe(made, request, resume_token, resume_file, count))


def _read(file: str) -> list[Message]:
    from stigmer_cli.cloud_events import read_events
    from stigmer_cli.manifests.files import read_files

    return [event for read in read_files([file]) for event in read_events(read.text, name=read.name)]


def _one(given: dict[str, Any], data: str | None, extensions: list[str]) -> Message:
    from stigmer_cli.cloud_events import to_message
    from stigmer_cli.runs.inputs import NO_INPUT, read_json

    event = {name: value for name, value in given.items() if value}
    for text in extensions:
        name, equals, value = text.partition("=")
        if not name or not equals:
            msg = f"--extension {text}: expected NAME=VALUE"
            raise InvalidInputError(msg)
        event[name] = value
    payload = read_json(data, option="--data")
    if payload is not NO_INPUT:
        event |= {"data": payload, "datacontenttype": "application/json"}
    return to_message(event, place="the event")


def _org(org: str) -> str:
    from stigmer_cli.references import DEFAULT_ORG

    return org or DEFAULT_ORG


async def _publish(made: Session, org: str, events: list[Message]) -> Message:
    from stigmer_protos import descriptors

    from stigmer_cli.connection import connect

    request: Message = descriptors.message_type("ai.stigmer.events.v1.PublishEventsRequest")(org=org, events=events)
    async with connect(made.environment, server=made.server, command="stigmer events") as channel:
        return await channel.service(_SERVICE).unary("publish", request)


async def _list(made: Session, org: str, type_: str, source: str, limit: int) -> list[Message]:
    from stigmer_cli import pages
    from stigmer_cli.connection import connect

    found: list[Message] = []
    request = {"org": org, "type": type_, "source": source, "page_size": min(limit or _MOST, _MOST)}
    async with (
        connect(made.environment, server=made.server, command="stigmer events") as channel,
        aclosing(pages.entries(channel, _SERVICE, "list", request)) as entries,
    ):
        async for entry in entries:
            found.append(entry)
            if len(found) == limit:
                break
    return found


async def _subscribe(made: Session, request: dict[str, Any], token: str, resume_file: Path | None, count: int) -> None:
    from stigmer_cli.cloud_events import to_json
    from stigmer_cli.streams import resume

    seen, began = 0, False

    def deliveries(channel: Channel, token: str) -> AsyncIterator[Message]:
        # Whoever has lost its place goes on with the oldest event that is kept, not with the next one.
        from_start = bool(request["from_start"] or (began and not token))
        return channel.service(_SERVICE).stream(
            "subscribe", {**request, "from_start": from_start, "resume_token": token}
        )

    stream = resume(made, deliveries, command="stigmer events", token=token)
    async with aclosing(stream):
        async for delivery in stream:
            began = True
            if delivery.HasField("event"):
                seen += 1
                _show(to_json(delivery.event), made.output)
            if resume_file is not None:
                # After the event was printed: whoever is interrupted in between sees it again, and never misses it.
                _keep(resume_file, delivery.resume_token)
            if seen == count != 0:
                return


def _show(event: dict[str, Any], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        console.result(console.to_line(event))
    elif output is OutputFormat.YAML:
        console.result("---\n" + console.to_yaml(event))
    elif output is OutputFormat.NAME:
        console.result(event["id"])
    else:
        data = console.to_line(event["data"]) if "data" in event else event.get("data_base64", "")
        console.result("  ".join([*_row(event)[:4], data]).rstrip())


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    from stigmer_cli.listing import moment

    return (
        moment(event.get("time", "")),
        event["type"],
        event["source"],
        event.get("subject", "-"),
        event.get("id", ""),
    )


def _token_in(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read: {error}"
        raise InvalidInputError(msg, hint="give a file that holds a token, or none yet") from None


def _keep(file: Path, token: str) -> None:
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        temporary.write_text(f"{token}\n", encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        msg = f"{file} cannot be written: {error.strerror}"
        raise InvalidInputError(msg, hint="the last event that was printed may come again next time") from error
