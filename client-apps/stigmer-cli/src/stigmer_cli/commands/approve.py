"""`stigmer approve`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Comment, Data, Debug, Output, Run, Server, Waiting, session


def approve(
    context: typer.Context,
    run: Run,
    where: Waiting = "",
    outcome: Annotated[
        str,
        typer.Option(
            "--outcome",
            metavar="OUTCOME",
            help="Of a task: one that it offers; the word for yes unless given.",
        ),
    ] = "",
    data: Data = None,
    comment: Comment = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Let a run go on that waits for a person.

    Of a tool call, --data changes its arguments, and --comment answers what the agent asked.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.runs.answering import Answer
    from stigmer_cli.runs.controlling import Control, control

    answer = Answer(where=where, outcome=outcome, action="APPROVE", comment=comment, data=form(data))
    what = Control(command="stigmer approve", call=answer.give, done=lambda _: f"was answered: {outcome or 'approved'}")
    raise typer.Exit(control(made, [run], what, wait=False))


def form(data: str | None) -> dict[str, Any]:
    """Return what a person filled in. Raises: InvalidInputError."""
    from stigmer_cli.plain import is_object
    from stigmer_cli.runs.inputs import NO_INPUT, read_json

    value = read_json(data, option="--data")
    if value is NO_INPUT:
        return {}
    if not is_object(value):
        msg = "--data is what was filled in, by field"
        raise InvalidInputError(msg, hint="""write an object, such as --data '{"amount": 12}'""")
    return value
