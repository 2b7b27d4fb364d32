"""`stigmer send`."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli.options import Debug, Output, Put, Run, Server, session

if TYPE_CHECKING:
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Message
    from stigmer_cli.runs.control import Controls


def send(
    context: typer.Context,
    run: Run,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say.")],
    file: Put = None,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Say something to an agent while it runs.

    The model sees it before it goes on. A run that is paused, or waits for a person, keeps it until then.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.files import transfer
    from stigmer_cli.files.given import read_files
    from stigmer_cli.runs.controlling import Control, control

    files = read_files(file or [])
    key = uuid.uuid4().hex

    async def say(controls: Controls, reference: Reference, execution: Message) -> Message:
        await transfer.put(controls.resources.channel, execution.spec.session_id, files)
        request = {"id": reference.id, "text": text, "idempotency_key": key}
        return await controls.call(reference, "sendMessage", request)

    what = Control(command="stigmer send", call=say, done=lambda _: "will hear it")
    raise typer.Exit(control(made, [run], what, wait=False))
