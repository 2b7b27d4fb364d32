"""`stigmer schedule`: when workflows start by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message

app = typer.Typer(no_args_is_help=True, help="See, pause and trigger the schedules of workflows.")

_SERVICE = "ai.stigmer.schedules.v1.ScheduleController"
_PAGE = 1000
Workflow = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="The workflow whose schedule it is, by name, org/name or id.")
]


@app.command(name="list")
def list_(
    context: typer.Context, org: Org = "", output: Output = None, debug: Debug = False, server: Server = ""
) -> None:
    """List the schedules of an organization."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    found = runtime.run(_list(made, org))
    console.entries(
        made.output,
        items=map(_plain, found),
        names=map(_name, found),
        headings=("WORKFLOW", "STARTS", "STATE", "STARTED", "LAST", "ERROR"),
        rows=map(_row, found),
    )
    if not found:
        console.note("no workflow has a schedule; its definition says `schedule: {every: PT5M}` or the like")


@app.command()
def pause(
    context: typer.Context,
    workflow: Workflow,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; shown with the schedule.")] = "",
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Have a workflow start no more by itself until it is resumed; runs that go on do so."""
    made = session(context, output=output, debug=debug, server=server)
    _tell(made, workflow, org, "pause", "paused", reason=reason)


@app.command()
def resume(
    context: typer.Context,
    workflow: Workflow,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Let a schedule go on; what it would have started meanwhile is not made up for."""
    made = session(context, output=output, debug=debug, server=server)
    _tell(made, workflow, org, "resume", "resumed")


@app.command()
def trigger(
    context: typer.Context,
    workflow: Workflow,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Start a run now, as the schedule does, even if it is paused."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    execution = runtime.run(_call(made, workflow, org, "trigger", {})).execution_id
    console.outcome(made.output, {"execution_id": execution}, name=execution, text=f"{execution} started")


def _tell(made: Session, workflow: str, org: str, method: str, done: str, **more: str) -> None:
    from stigmer_cli import runtime

    schedule = runtime.run(_call(made, workflow, org, method, more))
    name = _name(schedule)
    console.outcome(made.output, _plain(schedule), name=name, text=f"{name} {done}")


async def _list(made: Session, org: str) -> list[Message]:
    from stigmer_cli import pages
    from stigmer_cli.connection import connect
    from stigmer_cli.references import DEFAULT_ORG

    request = {"org": org or DEFAULT_ORG, "page_size": _PAGE}
    async with connect(made.environment, server=made.server, command="stigmer schedule") as channel:
        return [entry async for entry in pages.entries(channel, _SERVICE, "list", request)]


async def _call(made: Session, workflow: str, org: str, method: str, more: dict[str, str]) -> Message:
    from stigmer_cli import kinds, references
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources

    named = references.parse(workflow, kind=kinds.require("workflow"), org=org)
    async with connect(made.environment, server=made.server, command="stigmer schedule") as channel:
        id_ = named.id or (await Resources(channel).get(named)).metadata.id
        return await channel.service(_SERVICE).unary(method, {"workflow_id": id_, **more})


def _plain(schedule: Message) -> dict[str, Any]:
    return {
        "workflow": schedule.workflow,
        "workflow_id": schedule.workflow_id,
        "org": schedule.org,
        "triggers": list(schedule.triggers),
        "paused": schedule.paused,
        "reason": schedule.reason,
        "started": schedule.started,
        "last_execution_id": schedule.last_execution_id,
        "last_started_at": _time(schedule),
        "error": schedule.error,
    }


def _name(schedule: Message) -> str:
    return f"workflow/{schedule.workflow}"


def _row(schedule: Message) -> tuple[str, ...]:
    state = "active"
    if schedule.paused:
        state = f"paused: {schedule.reason}" if schedule.reason else "paused"
    starts = "; ".join(schedule.triggers)
    return schedule.workflow, starts, state, str(schedule.started), _time(schedule), schedule.error


def _time(schedule: Message) -> str:
    return schedule.last_started_at.ToJsonString() if schedule.HasField("last_started_at") else ""
