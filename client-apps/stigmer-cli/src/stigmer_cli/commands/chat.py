"""`stigmer chat`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.options import Debug, EnvFrom, Org, Output, Put, Script, Server, session

if TYPE_CHECKING:
    from stigmer_cli.chatting import Chat
    from stigmer_cli.options import Session

_COMMAND = "stigmer chat"


def chat(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="FILE|REF", help="An agent's file, a stored agent, or the id of a session.")
    ],
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable of the runs.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME[=VALUE]", help="A secret; asked for when no value is here."),
    ] = None,
    env_from: EnvFrom = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Which agent, where there are several.")] = "",
    model: Annotated[str, typer.Option("--model", metavar="PROVIDER:MODEL", help="Which model answers.")] = "",
    file: Put = None,
    script: Script = None,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Talk with an agent, line by line; it remembers what was said.

    Each line is a run in one session, which `stigmer chat ses-…` goes on with later. An empty line is not said; the end
    of the input (Ctrl-D) or /exit ends the talk. Ctrl-C stops the answer that is being given.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.chatting import Chat
    from stigmer_cli.files.given import read_files
    from stigmer_cli.runs.inputs import read_environment
    from stigmer_cli.runs.scripted import scripted_model

    talk = Chat(
        session=made,
        what=what,
        name=name,
        org=org,
        model=scripted_model(script, model, environment=made.environment, server=made.server),
        environment=read_environment(env or [], secret or []),
        files=read_files(file or []),
        environments=tuple(env_from or ()),
    )
    try:
        code = runtime.run(talk.main())
    finally:
        _tell_session(made, talk)
    raise typer.Exit(code)


def _tell_session(made: Session, talk: Chat) -> None:
    if talk.conversation and not made.output.is_structured:
        if talk.used:
            console.note(f"so far: {talk.used}")
        console.note(f"go on later with `stigmer chat {talk.conversation}`")
