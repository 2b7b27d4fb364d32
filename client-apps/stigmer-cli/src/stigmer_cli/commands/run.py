"""`stigmer run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_execution
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, EnvFrom, Org, Output, Put, Script, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.runs.declared import Declared
    from stigmer_cli.runs.place import Place
    from stigmer_cli.runs.start import Request

_COMMAND = "stigmer run"


def run(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="FILE|REF", help="A file, a folder, - or a stored workflow or agent.")],
    input_: Annotated[
        str | None, typer.Option("--input", "-i", metavar="JSON|@FILE|-", help="What a workflow gets as its input.")
    ] = None,
    message: Annotated[
        str,
        typer.Option("--message", "-m", metavar="TEXT", help="What an agent is told, or a workflow's `message`."),
    ] = "",
    session_: Annotated[
        str, typer.Option("--session", metavar="ID", help="Of an agent: the conversation to go on with, ses-….")
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="PROVIDER:MODEL", help="Which model answers; of a workflow: where a task names none."
        ),
    ] = "",
    file: Put = None,
    script: Script = None,
    env: Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable of the run.")] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME[=VALUE]", help="A secret of the run; asked for when no value is here."),
    ] = None,
    env_from: EnvFrom = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Which workflow or agent, where there are several.")
    ] = "",
    idempotency_key: Annotated[
        str,
        typer.Option("--idempotency-key", metavar="KEY", help="Names this run: asked for again, it is not run again."),
    ] = "",
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Of a workflow: the earlier run, wex-…, whose state this begins with.",
            autocompletion=complete_execution,
        ),
    ] = "",
    from_task: Annotated[
        str,
        typer.Option(
            "--from-task",
            metavar="TASK",
            help="Name or JSON pointer of the task to begin with [default: what failed, or began last].",
        ),
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it on the running stack, and return.")] = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Run a workflow or an agent, and show what happens as it does.

    Its output, or the agent's last words, are the result. Without a running stack, one is started for the length of
    this command.
    Exit code 0: completed; 1: failed; 2: something given is wrong, and nothing was stored.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.commands.validate import tell_doubts
    from stigmer_cli.files.given import read_files
    from stigmer_cli.runs.declared import Declared
    from stigmer_cli.runs.inputs import read_environment, read_json
    from stigmer_cli.runs.scripted import scripted_model
    from stigmer_cli.runs.start import Request

    declared = Declared.read(what, name=name, org=org)
    tell_doubts(made, declared.manifests)
    request = Request(
        input=read_json(input_, option="--input"),
        message=message,
        environment=read_environment(env or [], secret or []),
        idempotency_key=idempotency_key,
        session=session_,
        from_run=from_,
        from_task=from_task,
        files=read_files(file or []),
        environments=tuple(env_from or ()),
        model=scripted_model(script, model, environment=made.environment, server=made.server),
    )
    if declared.chosen is not None:
        request.check(declared.chosen)
    started = _Run(made, declared, request, detach=detach)
    try:
        code = runtime.run(started.main())
    except runtime.InterruptedByUserError:
        started.tell_interrupted()
        raise
    raise typer.Exit(code)


class _Run:
    """One run of this command."""

    def __init__(self, made: Session, declared: Declared, request: Request, *, detach: bool) -> None:
        self._session = made
        self._declared = declared
        self._request = request
        self._detach = detach
        self._owned = False
        self.identifier = ""

    async def main(self) -> int:
        """Start the run, follow it and tell how it ended; the exit code."""
        from stigmer_cli.runs.follow import ConnectionLostError, follow_again
        from stigmer_cli.runs.onlooking import Onlooker
        from stigmer_cli.runs.outcome import tell
        from stigmer_cli.runs.place import open_place

        output = self._session.output
        try:
            async with open_place(
                self._session, command=_COMMAND, own=not self._detach, starting=self._tell_starting
            ) as place:
                self._owned = place.stack is not None
                # Told before a stack of our own is ended, which takes a moment that nobody needs to wait for.
                return await place.do(self._there(place))
        except ConnectionLostError:
            if self._owned:
                raise
        with Onlooker(self._session, self.identifier) as onlooker:
            run = await follow_again(self._session, self.identifier, onlooker.see, command=_COMMAND, own=True)
        return tell(run, output, showed_answer=onlooker.showed_answer)

    async def _there(self, place: Place) -> int:
        from stigmer_cli.runs.follow import follow
        from stigmer_cli.runs.onlooking import Onlooker, is_told
        from stigmer_cli.runs.outcome import tell
        from stigmer_cli.runs.start import create
        from stigmer_cli.runs.whole import with_output

        runnable = await self._declared.store(place.resources)
        self._request.check_kind(runnable.kind)
        created = await create(place.resources, runnable, self._request)
        self.identifier = created.metadata.id
        if self._detach:
            self._tell_detached()
            return 0
        if is_told(self._session):
            console.note(f"{runnable.metadata.name}  {self.identifier}", style=console.Style.BOLD)
        with Onlooker(self._session, self.identifier) as onlooker:
            run = await follow(place.resources, self.identifier, onlooker.see)
            run = await with_output(place.resources, run, self._session.output)
        return tell(run, self._session.output, showed_answer=onlooker.showed_answer)

    def _tell_starting(self) -> None:
        from stigmer_cli.runs.onlooking import is_told

        if is_told(self._session):
            console.note("no stack runs here, so this command brings its own (`stigmer up --detach` keeps one)")

    def tell_interrupted(self) -> None:
        """Say what became of the run when the user left it."""
        from stigmer_cli.connection import running_stack

        environment = self._session.environment
        if not self.identifier:
            console.note("interrupted before anything was started")
        elif self._session.server or environment.server_address or running_stack(environment):
            console.note(f"interrupted; {self.identifier} goes on")
            console.note(f"  watch it with `stigmer watch {self.identifier}`")
        else:
            console.note(f"interrupted; {self.identifier} waits where it was")
            console.note(f"  go on with `stigmer up --detach`, then `stigmer watch {self.identifier}`")

    def _tell_detached(self) -> None:
        """Print the run's id."""
        if self._session.output in {OutputFormat.JSON, OutputFormat.YAML}:
            console.result(console.structured({"id": self.identifier, "phase": "PENDING"}, self._session.output))
        else:
            console.result(self.identifier)
        console.note(f"watch it with `stigmer watch {self.identifier}`")
