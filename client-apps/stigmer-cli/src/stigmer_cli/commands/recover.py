"""`stigmer recover`, also called `stigmer retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, Output, Reason, Runs, Server, Wait, session

if TYPE_CHECKING:
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Message
    from stigmer_cli.runs.control import Controls, Outcome


def recover(
    context: typer.Context,
    runs: Runs,
    from_task: Annotated[
        str,
        typer.Option(
            "--from-task", metavar="TASK", help="Name or JSON pointer of the task to begin with [default: what failed]."
        ),
    ] = "",
    reason: Reason = "",
    wait: Wait = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Run failed runs again from where they failed.

    What is done is kept. Environments are read anew. With --wait, exit code 1 when one of them fails again.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.runs.controlling import Control, control

    async def call(controls: Controls, reference: Reference, _: Message) -> Message:
        request = {"id": reference.id, "reason": reason}
        if from_task:
            if reference.kind.enum_name != "workflow_execution":
                msg = f"--from-task does not go with {reference.id}: a run of an agent has no tasks"
                raise InvalidInputError(msg, hint="leave it out; the conversation goes on where it failed")
            request["from_task"] = from_task
        return await controls.call(reference, "recover", request)

    what = Control(command="stigmer recover", call=call, done=_done, aim=frozenset({"COMPLETED"}))
    raise typer.Exit(control(made, runs, what, wait=wait))


def _done(outcome: Outcome) -> str:
    from stigmer_cli.runs.control import told_going_on

    return told_going_on(outcome, "runs again")
