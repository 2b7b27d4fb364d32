"""`stigmer describe`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_reference
from stigmer_cli.console import OutputFormat, Style
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.description import Children, Description
    from stigmer_cli.options import Session
    from stigmer_cli.references import Reference
    from stigmer_cli.runs.execution import Task

_INDENT = "  "
_LABEL_WIDTH = 14
_TASK_COLUMNS = ("TASK", "KIND", "STATUS", "STARTED", "TOOK", "")


def describe(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="KIND NAME|KIND/NAME|ID", help="Which resource.", autocompletion=complete_reference),
    ],
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Show all there is to know of a resource.

    What it is, how it is, what belongs to it, what depends on it, and its versions.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import references, runtime
    from stigmer_cli.listing import name_of

    found = runtime.run(_describe(made, references.parse_words(words, org=org)))
    if made.output.is_structured:
        console.result(console.structured(_plain(found), made.output))
    elif made.output is OutputFormat.NAME:
        console.result(f"{found.kind.enum_name}/{name_of(found.resource, found.kind)}")
    else:
        console.result("\n".join(_page(found)))


async def _describe(made: Session, reference: Reference) -> Description:
    from stigmer_cli.connection import connect
    from stigmer_cli.description import describe as gather
    from stigmer_cli.resources import Resources

    async with connect(made.environment, server=made.server, command="stigmer describe") as channel:
        return await gather(Resources(channel), reference)


def _plain(found: Description) -> dict[str, Any]:
    from stigmer_cli.commands import delete, history

    return {
        "resource": found.resource,
        "children": [
            {"kind": children.kind.name, "total": children.total, "newest": list(children.newest)}
            for children in found.children
        ],
        "dependents": [delete.plain(entry) for entry in found.dependents],
        "versions": [history.plain(revision) for revision in found.revisions],
    }


def _page(found: Description) -> Iterator[str]:
    resource = found.resource
    yield _styled(f"{found.kind.display_name} {resource['metadata'].get('name') or resource['metadata']['id']}")
    yield from _metadata(resource)
    yield from _section("Spec", _yaml(resource.get("spec", {})))
    yield from _section("Status", _yaml(_status(resource)))
    if found.kind.enum_name == "workflow_execution":
        yield from _section("Tasks", _tasks(found))
    for children in found.children:
        yield from _section(f"{_plural(children.kind.display_name)} ({children.total})", _children(children))
    yield from _section("Deleted with it", _dependents(found))
    yield from _section("Versions", _revisions(found))


def _status(resource: dict[str, Any]) -> dict[str, Any]:
    """Return of the status what is not told elsewhere on the page, and nothing twice."""
    status = {key: value for key, value in resource.get("status", {}).items() if key not in {"audit", "tasks"}}
    if status.get("output_value") == status.get("output"):
        status.pop("output", None)
    validation = status.get("serverless_workflow_validation", {})
    if validation.get("yaml") == resource.get("spec", {}).get("definition"):
        status["serverless_workflow_validation"] = {key: validation[key] for key in validation if key != "yaml"}
    return {key: value for key, value in status.items() if value not in ({}, None)}


def _metadata(resource: dict[str, Any]) -> Iterator[str]:
    from stigmer_cli.listing import moment

    metadata = resource["metadata"]
    audit = resource.get("status", {}).get("audit", {}).get("spec_audit", {})
    version = metadata.get("version", {})
    rows = {
        "id": metadata["id"],
        "slug": metadata.get("slug", ""),
        "organization": metadata.get("org", ""),
        "owner scope": metadata.get("owner_scope", "").replace("_", " "),
        "version": " ".join(filter(None, (version.get("id", ""), version.get("message", "")))),
        "created": _by(moment(audit.get("created_at", "")), audit.get("created_by", {})),
        "updated": _by(moment(audit.get("updated_at", "")), audit.get("updated_by", {})),
        "tags": ", ".join(metadata.get("tags", [])),
        "labels": _pairs(metadata.get("labels", {})),
        "annotations": _pairs(metadata.get("annotations", {})),
    }
    for label, value in rows.items():
        if value:
            first, *rest = value.split("\n")
            yield f"{_INDENT}{label.ljust(_LABEL_WIDTH)}{first}"
            yield from (f"{_INDENT}{' ' * _LABEL_WIDTH}{line}" for line in rest)


def _by(moment: str, actor: dict[str, Any]) -> str:
    return f"{moment} by {actor['id']}" if moment and actor.get("id") else moment


def _pairs(pairs: dict[str, str]) -> str:
    return "\n".join(f"{key}={pairs[key]}" for key in sorted(pairs))


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield _styled(title)
        yield from (f"{_INDENT}{line}".rstrip() for line in lines)


def _yaml(value: dict[str, Any]) -> list[str]:
    return console.to_yaml(value).splitlines() if value else []


def _tasks(found: Description) -> list[str]:
    from stigmer_cli.listing import moment
    from stigmer_cli.runs.execution import read_execution
    from stigmer_cli.runs.phases import duration

    rows = [
        (
            task.name if task.iteration is None else f"{task.name} [{task.iteration}]",
            task.kind,
            task.status.value,
            moment(task.started_at),
            duration(task.seconds),
            _remark(task),
        )
        for task in read_execution(found.message).tasks
    ]
    return console.table(_TASK_COLUMNS, rows).split("\n") if rows else []


def _remark(task: Task) -> str:
    """Return why a task failed, else what it waits for, and what it started."""
    if task.error:
        return str(task.error["message"]).split("\n")[0]
    awaits = f"for {console.printable(task.awaits)}" if task.awaits else ""
    return "  ".join(filter(None, (awaits, task.execution and f"→ {task.execution}")))


def _children(children: Children) -> list[str]:
    from stigmer_cli.listing import headings, row

    if not children.newest:
        return ["none"]
    columns = [name for name in headings(children.kind, wide=False) if name != "ORG"]
    lines = console.table(columns, [row(child, columns) for child in children.newest]).split("\n")
    more = children.total - len(children.newest)
    return [*lines, f"and {more} more"] if more > 0 else lines


def _dependents(found: Description) -> list[str]:
    from stigmer_cli.commands import delete

    return [delete.word(entry) for entry in found.dependents]


def _revisions(found: Description) -> list[str]:
    from stigmer_cli.commands import history

    if not found.revisions:
        return []
    lines = history.told(list(found.revisions), OutputFormat.TABLE).split("\n")
    return [*lines, "`stigmer history` tells them all"] if found.revisions[-1].version != "1" else lines


def _plural(name: str) -> str:
    return f"{name}s"


def _styled(title: str) -> str:
    return console.styled(title, Style.BOLD, sys.stdout)
