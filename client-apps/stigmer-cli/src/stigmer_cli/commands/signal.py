"""`stigmer signal`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli.options import Data, Debug, Output, Run, Server, session

if TYPE_CHECKING:
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Message
    from stigmer_cli.runs.control import Controls, Outcome


def signal(
    context: typer.Context,
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal that a task listens for.")],
    data: Data = None,
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="Names this signal: sent again within a day, it counts once.")
    ] = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Send a signal to a run, also before it listens."""
    made = session(context, output=output, debug=debug, server=server)
    from google.protobuf.json_format import MessageToDict

    from stigmer_cli.messages import to_value
    from stigmer_cli.runs.controlling import Control, control
    from stigmer_cli.runs.inputs import NO_INPUT, read_json

    payload = read_json(data, option="--data")
    request: dict[str, Any] = {"signal_name": name, "idempotency_key": key}
    if payload is not NO_INPUT:
        request["payload"] = MessageToDict(to_value(payload))

    async def call(controls: Controls, reference: Reference, _: Message) -> Message:
        return await controls.call(reference, "sendSignal", {"execution_id": reference.id, **request})

    def done(_: Outcome) -> str:
        return f"was sent the signal {name}"

    raise typer.Exit(control(made, [run], Control(command="stigmer signal", call=call, done=done), wait=False))
