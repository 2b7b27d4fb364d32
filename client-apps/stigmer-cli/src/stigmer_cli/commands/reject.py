"""`stigmer reject`."""

from __future__ import annotations

from typing import Annotated

import typer

from stigmer_cli.commands.approve import form
from stigmer_cli.options import Comment, Data, Debug, Output, Run, Server, Waiting, session


def reject(
    context: typer.Context,
    run: Run,
    where: Waiting = "",
    outcome: Annotated[
        str,
        typer.Option(
            "--outcome",
            metavar="OUTCOME",
            help="Of a task: one that it offers; the word for no unless given.",
        ),
    ] = "",
    skip: Annotated[
        bool, typer.Option("--skip", help="Of a tool call: go on without it, and do not call it refused.")
    ] = False,
    data: Data = None,
    comment: Comment = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Refuse what a run waits for; the run itself goes on."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli.runs.answering import Answer
    from stigmer_cli.runs.controlling import Control, control

    answer = Answer(where=where, outcome=outcome, action="SKIP" if skip else "REJECT", comment=comment, data=form(data))
    what = Control(
        command="stigmer reject",
        call=answer.give,
        done=lambda _: "was told to go on without it" if skip else f"was answered: {outcome or 'rejected'}",
    )
    raise typer.Exit(control(made, [run], what, wait=False))
