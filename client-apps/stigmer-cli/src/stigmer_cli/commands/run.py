"""`stigmer run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.manifests import Manifest
    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message, Resources
    from stigmer_cli.runs.execution import Execution
    from stigmer_cli.runs.place import Place
    from stigmer_cli.runs.start import Request
    from stigmer_cli.runs.view import RunView

_COMMAND = "stigmer run"


def run(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="FILE|REF", help="A file, a folder, - or a stored workflow.")],
    input_: Annotated[
        str | None, typer.Option("--input", "-i", metavar="JSON|@FILE|-", help="What the workflow gets as its input.")
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="The input's `message`.")] = "",
    env: Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable of the run.")] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME[=VALUE]", help="A secret of the run; asked for when no value is here."),
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Which workflow, where there are several.")] = "",
    idempotency_key: Annotated[
        str,
        typer.Option("--idempotency-key", metavar="KEY", help="Names this run: asked for again, it is not run again."),
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it on the running stack, and return.")] = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Run a workflow, and show its tasks as they happen.

    Its output is the result. Without a running stack, one is started for the length of this command.
    Exit code 0: completed; 1: failed; 2: something given is wrong, and nothing was stored.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.runs.inputs import read_environment, read_json
    from stigmer_cli.runs.start import Request, pick_workflow

    manifests = _manifests(what, org)
    request = Request(
        input=read_json(input_, option="--input"),
        message=message,
        environment=read_environment(env or [], secret or []),
        idempotency_key=idempotency_key,
    )
    chosen = pick_workflow(manifests, name) if manifests else None
    if chosen is not None:
        request.check(chosen)
    started = _Run(made, manifests, chosen, what, org, request, detach=detach)
    try:
        code = runtime.run(started.main())
    except runtime.InterruptedByUserError:
        started.tell_interrupted()
        raise
    raise typer.Exit(code)


def _manifests(what: str, org: str) -> list[Manifest]:
    """Return what the argument declares; nothing when it is no file but a reference."""
    if what != "-" and not Path(what).exists() and not what.endswith((".yaml", ".yml", ".json")):
        return []
    from stigmer_cli.commands.validate import invalid
    from stigmer_cli.manifests import load, read_files

    manifests, problems = load(read_files([what]), org=org)
    if problems:
        raise invalid(problems)
    return manifests


class _Run:
    """One run of this command."""

    def __init__(
        self, made: Session, manifests: list[Manifest], chosen: Manifest | None, what: str, org: str, request: Request,
        *, detach: bool,
    ) -> None:  # fmt: skip
        self._session = made
        self._manifests = manifests
        self._chosen = chosen
        self._what = what
        self._org = org
        self._request = request
        self._detach = detach
        self._owned = False
        self.identifier = ""

    async def main(self) -> int:
        """Start the run, follow it and tell how it ended; the exit code."""
        from stigmer_cli.runs.follow import ConnectionLostError, follow_again
        from stigmer_cli.runs.outcome import tell
        from stigmer_cli.runs.place import open_place

        output = self._session.output
        try:
            async with open_place(
                self._session, command=_COMMAND, own=not self._detach, starting=self._tell_starting
            ) as place:
                self._owned = place.stack is not None
                execution = await place.do(self._there(place))
                # Told before a stack of our own is ended, which takes a moment that nobody needs to wait for.
                return 0 if execution is None else tell(execution, output)
        except ConnectionLostError:
            if self._owned:
                raise
        with self._view() as view:
            execution = await follow_again(self._session, self.identifier, view.update, command=_COMMAND, own=True)
        return tell(execution, output)

    async def _there(self, place: Place) -> Execution | None:
        from stigmer_cli.runs.follow import follow
        from stigmer_cli.runs.start import create

        workflow = await self._workflow(place.resources)
        created = await create(place.resources, workflow, self._request)
        self.identifier = created.metadata.id
        if self._detach:
            self._tell_detached()
            return None
        if self._is_told:
            console.note(f"{workflow.metadata.name}  {self.identifier}", style=console.Style.BOLD)
        with self._view() as view:
            return await follow(place.resources, self.identifier, view.update)

    def _tell_starting(self) -> None:
        if self._is_told:
            console.note("no stack runs here, so this command brings its own (`stigmer up --detach` keeps one)")

    def _view(self) -> RunView:
        from stigmer_cli.runs.view import RunView

        return RunView(enabled=self._is_told)

    @property
    def _is_told(self) -> bool:
        """Whether to tell how things go: not when a program reads the result and nobody looks on."""
        return self._session.output is OutputFormat.TABLE or sys.stderr.isatty()

    async def _workflow(self, resources: Resources) -> Message:
        """Return the stored workflow to run, after storing what the file declares."""
        from stigmer_protos import descriptors

        from stigmer_cli import references
        from stigmer_cli.applying import apply_all
        from stigmer_cli.runs.start import require_workflow

        if self._chosen is None:
            kind = descriptors.kind_by_name("Workflow")
            named = references.parse(self._what, kind=kind, org=self._org)
            require_workflow(named.kind.name)
            return await resources.get(named)
        for outcome in await apply_all(resources, self._manifests):
            if outcome.manifest is self._chosen:
                return outcome.resource
        raise AssertionError(self._chosen)

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
