"""`stigmer get`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_phase, complete_reference, complete_sort
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, Output, Selector, Server, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stigmer_protos.descriptors import Kind

    from stigmer_cli.options import Session
    from stigmer_cli.references import Reference
    from stigmer_cli.resources import Listing, Resources


def get(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="Such as workflows, wf or runs; or KIND/NAME, or an id.",
            autocompletion=complete_reference,
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]", help="A name, org/name or id; none lists them all.", autocompletion=complete_reference
        ),
    ] = "",
    version: Annotated[
        str, typer.Option("--version", metavar="VERSION", help="The resource as it was in this version, tag or hash.")
    ] = "",
    org: Annotated[str, typer.Option("--org", metavar="ORG", help="Only this organization [default: all].")] = "",
    selector: Selector = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Only what has all these tags.")] = None,
    phase: Annotated[
        str,
        typer.Option(
            "--phase", metavar="PHASE", help="Only runs in this phase, such as failed.", autocompletion=complete_phase
        ),
    ] = "",
    parent: Annotated[
        str, typer.Option("--parent", metavar="KIND/NAME|ID", help="Only what belongs to this resource.")
    ] = "",
    text: Annotated[
        str, typer.Option("--text", metavar="TEXT", help="Only what has this in its name, slug or id.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The first so many; 0: all.")] = 0,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="FIELD",
            help="name, created, updated or phase; -FIELD for the reverse [default: newest first].",
            autocompletion=complete_sort,
        ),
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Then show every change, until interrupted.")] = False,
    resume_token: Annotated[
        str, typer.Option("--resume-token", metavar="TOKEN", help="With --watch: go on after this event.")
    ] = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """List resources, or show one, also as it was.

    A watch goes on over lost connections and restarts of the server, and tells every change once.
    """
    made = session(context, output=output, debug=debug, server=server, wide=True)
    from stigmer_cli import kinds, references, runtime

    is_reference = not name and ("/" in kind or references.kind_of_id(kind) is not None)
    if is_reference:
        kind, name = "", kind
    found_kinds = kinds.several(kind) if kind else ()
    asked = _Asked(
        org=org,
        selector=selector,
        tags=tuple(tag or ()),
        phase=phase,
        parent=parent,
        text=text,
        limit=limit,
        sort=sort,
        resume_token=resume_token,
    )
    if not watch:
        _refuse(resume_token, "--resume-token", "a list that is not watched")
    if name:
        # Of several kinds an id says itself which it is, and a name is one of the first.
        found_kind = references.kind_of_id(name) if len(found_kinds) > 1 else None
        reference = references.parse(name, kind=found_kind or next(iter(found_kinds), None), org=org)
        asked.refuse_for_one()
        if watch:
            _refuse(version, "--version", "--watch")
            runtime.run(_watch(made, asked, (reference.kind,), reference))
            return
        resource = runtime.run(_one(made, reference, version))
        console.result(_told([resource], resource, made.output, (reference.kind,)))
        return
    _refuse(version, "--version", "a list")
    if watch:
        asked.refuse_for_watch()
        runtime.run(_watch(made, asked, found_kinds, None))
        return
    resources = runtime.run(_list(made, asked, found_kinds))
    console.result(_told(resources, {"items": resources}, made.output, found_kinds))
    if not resources:
        console.note(asked.nothing(found_kinds))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Which resources were asked for."""

    org: str
    selector: str
    tags: tuple[str, ...]
    phase: str
    parent: str
    text: str
    limit: int
    sort: str
    resume_token: str

    def __post_init__(self) -> None:
        if self.sort.removeprefix("-") not in {"", *_sorts()}:
            msg = f"--sort {self.sort}: there is no such order"
            raise InvalidInputError(msg, hint=f"orders: {', '.join(_sorts())}; with - in front for the reverse")

    def refuse_for_one(self) -> None:
        """Refuse what restricts a list, when one resource is named."""
        for option, value in self._filters().items():
            _refuse(value, option, "the name of one resource")

    def refuse_for_watch(self) -> None:
        """Refuse what a watch cannot restrict itself to."""
        for option, value in self._filters().items():
            if option not in {"--selector", "--phase"}:
                _refuse(value, option, "--watch")

    def nothing(self, kinds: Sequence[Kind]) -> str:
        """Return what to say of an empty list."""
        name = kinds[0].display_name.lower() if len(kinds) == 1 else "run"
        return (
            f"there is no {name} that fits" if any(self._filters().values()) or self.org else f"there is no {name} yet"
        )

    async def listings(self, resources: Resources, kinds: Sequence[Kind]) -> list[Listing]:
        """Return what to ask the server for, of each kind that can have what is asked for."""
        from stigmer_cli import references
        from stigmer_cli.listing import can_be
        from stigmer_cli.resources import Listing

        phase, parent_id = self.full_phase(kinds), ""
        if self.parent:
            found = await resources.get(references.parse(self.parent, kind=None, org=self.org))
            parent_id = found.metadata.id
        return [
            Listing(
                kind=kind,
                org=self.org,
                text=self.text,
                selector=self.selector,
                tags=self.tags,
                phase=phase,
                parent_id=parent_id,
            )
            for kind in kinds
            if not phase or can_be(kind, phase)
        ]

    def full_phase(self, kinds: Sequence[Kind]) -> str:
        """Return the phase as the contract spells it, "" for any."""
        from stigmer_cli.listing import full_phase

        return full_phase(kinds, self.phase) if self.phase else ""

    def _filters(self) -> dict[str, Any]:
        return {
            "--selector": self.selector,
            "--tag": self.tags,
            "--phase": self.phase,
            "--parent": self.parent,
            "--text": self.text,
            "--limit": self.limit,
            "--sort": self.sort,
        }


def _sorts() -> list[str]:
    from stigmer_cli.listing import SORTS

    return list(SORTS)


def _refuse(value: object, option: str, other: str) -> None:
    if value:
        msg = f"{option} does not go with {other}"
        raise InvalidInputError(msg, hint="`stigmer get --help` tells what does")


async def _one(made: Session, reference: Reference, version: str) -> dict[str, Any]:
    from stigmer_cli.connection import connect
    from stigmer_cli.messages import to_plain
    from stigmer_cli.resources import Resources
    from stigmer_cli.revisions import Revisions

    async with connect(made.environment, server=made.server, command="stigmer get") as channel:
        found = await Resources(channel).get(reference)
        if version:
            found = await Revisions(channel).get(reference.kind, found.metadata.id, version)
        plain = to_plain(found)
        if made.output.is_structured and reference.kind.enum_name == "workflow_execution":
            from stigmer_cli.runs.whole import fill

            await fill(channel, plain)
        return plain


async def _list(made: Session, asked: _Asked, kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    from stigmer_grpc.errors import InvalidArgumentError

    from stigmer_cli.connection import connect
    from stigmer_cli.listing import SORTS
    from stigmer_cli.resources import Resources

    found: list[dict[str, Any]] = []
    refused: list[InvalidArgumentError] = []
    async with connect(made.environment, server=made.server, command="stigmer get") as channel:
        resources = Resources(channel)
        listings = await asked.listings(resources, kinds)
        for listing in listings:
            try:
                found += await _listed(resources, listing, 0 if asked.sort else asked.limit)
            except InvalidArgumentError as error:
                refused.append(error)  # one kind of runs may belong to what another cannot belong to
    if refused and len(refused) == len(listings):
        raise refused[0]
    if asked.sort or len(kinds) > 1:
        order = asked.sort or "-created"
        found.sort(key=SORTS[order.removeprefix("-")], reverse=order.startswith("-"))
    return found[: asked.limit or None]


async def _listed(resources: Resources, listing: Listing, limit: int) -> list[dict[str, Any]]:
    """Return the newest so many; 0: all."""
    from stigmer_cli.messages import from_json, to_plain

    found: list[dict[str, Any]] = []
    async for entry in resources.list(listing):
        found.append(to_plain(from_json(listing.kind, entry)))
        if len(found) == limit:
            break
    return found


async def _watch(made: Session, asked: _Asked, kinds: tuple[Kind, ...], reference: Reference | None) -> None:
    from stigmer_cli.runs.place import open_place
    from stigmer_cli.watching import Watched, watch

    identifier = ""
    if reference is not None:
        async with open_place(made, command="stigmer get", own=False) as place:
            identifier = (await place.resources.get(reference)).metadata.id
    watched = Watched(
        kinds=kinds,
        id=identifier,
        org="" if identifier else asked.org,
        selector=asked.selector,
        phase=asked.full_phase(kinds),
        resume_token=asked.resume_token,
    )
    await watch(made, watched)


def _told(resources: list[dict[str, Any]], value: Any, output: OutputFormat, kinds: Sequence[Kind]) -> str:
    from stigmer_cli.listing import headings, reference_to, row

    if output.is_structured:
        return console.structured(value, output)
    if output is OutputFormat.NAME:
        return "\n".join(reference_to(resource, kinds) for resource in resources)
    columns = headings(kinds[0], wide=output is OutputFormat.WIDE)
    return console.table(columns, [row(resource, columns) for resource in resources])
