"""`stigmer session`: what can be done with conversations beside talking."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_session
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message

app = typer.Typer(no_args_is_help=True, help="Go on with conversations another way.")

_SERVICE = "ai.stigmer.agentic.session.v1.SessionForkController"


# Without it, a family of one command is that command.
@app.callback()
def _family() -> None:
    pass


@app.command()
def fork(
    context: typer.Context,
    conversation: Annotated[
        str,
        typer.Argument(
            metavar="SESSION", help="The session, by id, name or org/name.", autocompletion=complete_session
        ),
    ],
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="ID", help="Its last run (aex-…), or message, that the fork knows of [default: the newest]."
        ),
    ] = "",
    unanswered: Annotated[
        bool, typer.Option("--unanswered", help="Of the run that --at names, take only what the person said.")
    ] = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the fork.")] = "",
    subject: Annotated[
        str, typer.Option("--subject", metavar="TEXT", help="What it is about [default: as the session].")
    ] = "",
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Make a session that goes on from a message of another one.

    Both go on by themselves from there. The files of the session are copied when something is first said in the fork.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    request = {**_place(at, unanswered=unanswered), "name": name, "subject": subject}
    forked = runtime.run(_fork(made, conversation, org, request))
    _tell(made.output, forked)


def _place(at: str, *, unanswered: bool) -> dict[str, str]:
    from stigmer_cli import references

    kind = references.kind_of_id(at)
    is_run = kind is not None and kind.enum_name == "agent_execution"
    if unanswered and not is_run:
        msg = "--unanswered takes what a person said to a run, and --at names none"
        raise InvalidInputError(msg, hint="write --at aex-…, the id of one of the session's runs")
    if unanswered:
        return {"at_execution_id": at, "at_message_id": at}
    return {"at_execution_id": at} if is_run else {"at_message_id": at}


async def _fork(made: Session, conversation: str, org: str, request: dict[str, Any]) -> Message:
    from stigmer_cli import kinds, references
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import IDEMPOTENCY_KEY, Resources

    reference = references.parse(conversation, kind=kinds.require("session"), org=org)
    async with connect(made.environment, server=made.server, command="stigmer session") as channel:
        found = await Resources(channel).get(reference)
        metadata = [(IDEMPOTENCY_KEY, uuid.uuid4().hex)]
        stub = channel.service(_SERVICE)
        return await stub.unary("fork", {**request, "id": found.metadata.id}, metadata=metadata)


def _tell(output: OutputFormat, forked: Message) -> None:
    identifier, place = forked.metadata.id, forked.status.forked_from
    if output.is_structured:
        value = {
            "id": identifier,
            "name": forked.metadata.name,
            "org": forked.metadata.org,
            "forked_from": {
                "session": place.session_id,
                "execution": place.execution_id,
                "message": place.message_id or None,
            },
        }
        console.result(console.structured(value, output))
        return
    console.result(f"session/{forked.metadata.slug}" if output is OutputFormat.NAME else identifier)
    console.note(f"go on with `stigmer chat {identifier}`")
