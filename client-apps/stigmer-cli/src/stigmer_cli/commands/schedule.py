"""`stigmer schedule`: when workflows start by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
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
    if made.output.is_structured:
        console.result(console.structured({"items": list(map(_plain, found))}, made.output))
    elif made.output is OutputFormat.NAME:
        console.result("\n".join(f"workflow/{schedule.workflow}" for schedule in found))
    else:
        headings = ("WORKFLOW", "STARTS", "STATE", "STARTED", "LAST", "ERROR")
        console.result(console.table(headings, map(_row, found)))
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
    if made.output.is_structured:
        console.result(console.structured({"execution_id": execution}, made.output))
    else:
        console.result(execution if made.output is OutputFormat.NAME else f"{execution} started")


def _tell(made: Session, workflow: str, org: str, method: str, done: str, **more: str) -> None:
    from stigmer_cli import runtime

    schedule = runtime.run(_call(made, workflow, org, method, more))
    if made.output.is_structured:
        console.result(console.structured(_plain(schedule), made.output))
    else:
        console.result(f"workflow/{schedule.workflow}" + ("" if made.output is OutputFormat.NAME else f" {done}"))


async def _list(made: Session, org: str) -> list[Message]:
    from stigmer_cli.connection import connect
    from stigmer_cli.references import DEFAULT_ORG

    found: list[Message] = []
    request: dict[str, Any] = {"org": org or DEFAULT_ORG, "page_size": _PAGE}
    async with connect(made.environment, server=made.server, command="stigmer schedule") as channel:
        while True:
            page: Message = await channel.service(_SERVICE).unary("list", request)
            found += page.entries
            if not page.next_page_token:
                return found
            request["page_token"] = page.next_page_token


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


def _row(schedule: Message) -> tuple[str, ...]:
    state = "active"
    if schedule.paused:
        state = f"paused: {schedule.reason}" if schedule.reason else "paused"
    starts = "; ".join(schedule.triggers)
    return schedule.workflow, starts, state, str(schedule.started), _time(schedule), schedule.error


def _time(schedule: Message) -> str:
    return schedule.last_started_at.ToJsonString() if schedule.HasField("last_started_at") else ""
