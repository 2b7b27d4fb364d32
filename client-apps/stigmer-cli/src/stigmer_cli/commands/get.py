"""`stigmer get`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.options import Debug, Output, Server, session

if TYPE_CHECKING:
    from stigmer_protos.descriptors import Kind

    from stigmer_cli.options import Session


def get(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Such as workflows, wf or runs; or KIND/NAME, or an id.")],
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A name, org/name or id; none lists them all.")] = "",
    org: Annotated[str, typer.Option("--org", metavar="ORG", help="Only this organization [default: all].")] = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Show one resource, or list those of a kind, newest first."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import kinds, references, runtime

    is_reference = not name and ("/" in kind or references.kind_of_id(kind) is not None)
    if is_reference:
        kind, name = "", kind
    found_kind = kinds.require(kind) if kind else None
    if name:
        reference = references.parse(name, kind=found_kind, org=org)
        found_kind = reference.kind
        resources = [runtime.run(_get(made, reference))]
        value: Any = resources[0]
    else:
        found_kind = found_kind or kinds.require(kind)
        resources = runtime.run(_list(made, found_kind, org))
        value = {"items": resources}
    console.result(_told(resources, value, made.output, found_kind))
    if not resources:
        console.note(f"there is no {found_kind.display_name.lower()} yet")


async def _get(made: Session, reference: Any) -> dict[str, Any]:
    from stigmer_cli.connection import connect
    from stigmer_cli.messages import to_plain
    from stigmer_cli.resources import Resources

    async with connect(made.environment, server=made.server, command="stigmer get") as channel:
        return to_plain(await Resources(channel).get(reference))


async def _list(made: Session, kind: Kind, org: str) -> list[dict[str, Any]]:
    from stigmer_cli.connection import connect
    from stigmer_cli.messages import from_json, to_plain
    from stigmer_cli.resources import Resources

    async with connect(made.environment, server=made.server, command="stigmer get") as channel:
        return [to_plain(from_json(kind, entry)) async for entry in Resources(channel).list(kind, org=org)]


def _told(resources: list[dict[str, Any]], value: Any, output: OutputFormat, kind: Kind) -> str:
    if output in {OutputFormat.JSON, OutputFormat.YAML}:
        return console.structured(value, output)
    if output is OutputFormat.NAME:
        return "\n".join(f"{kind.enum_name}/{_name(resource, kind)}" for resource in resources)
    has_phase = any("phase" in resource.get("status", {}) for resource in resources)
    headings = ["NAME", "ID", "ORG", *(["PHASE"] if has_phase else []), "UPDATED"]
    return console.table(headings, [_row(resource, has_phase=has_phase) for resource in resources])


def _name(resource: dict[str, Any], kind: Kind) -> str:
    metadata = resource["metadata"]
    return metadata["id"] if kind.enum_name.endswith("_execution") else metadata.get("slug") or metadata["id"]


def _row(resource: dict[str, Any], *, has_phase: bool) -> list[str]:
    metadata, status = resource["metadata"], resource.get("status", {})
    audit = status.get("audit", {})
    moments = [audit.get(part, {}).get("updated_at", "") for part in ("spec_audit", "status_audit")]
    phase = [str(status.get("phase", "")).removeprefix("EXECUTION_")] if has_phase else []
    updated = max(moments)[:19].replace("T", " ")
    return [metadata.get("name", ""), metadata["id"], metadata.get("org", ""), *phase, updated]
