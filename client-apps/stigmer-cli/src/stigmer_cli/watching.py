"""Watching resources: every change as a row that is added to a table, or as a document of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli import console
from stigmer_cli.console import OutputFormat
from stigmer_cli.listing import headings, reference_to, row
from stigmer_cli.messages import from_json, to_plain
from stigmer_cli.options import Session
from stigmer_cli.resources import QUERIES, Message
from stigmer_cli.streams import resume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stigmer_grpc.channel import Channel

_EVENTS = {1: "created", 2: "updated", 3: "deleted", 4: "synced"}
_BOOKMARK = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What to watch."""

    kinds: tuple[Kind, ...]
    id: str = ""
    """One resource; empty for all that fit."""
    org: str = ""
    selector: str = ""
    phase: str = ""
    """Only events that find the resource in this phase, by the name that its status spells it with."""
    resume_token: str = ""

    def open(self, channel: Channel, token: str) -> AsyncIterator[Message]:
        """Begin the watch: after the token, or else with every resource as it is."""
        request = {
            "kinds": [kind.enum_name for kind in self.kinds],
            "id": self.id,
            "org": self.org,
            "selector": self.selector,
            "resume_token": token,
            "snapshot": not token,
        }
        return channel.service(QUERIES).stream("watch", request)


async def watch(session: Session, watched: Watched) -> None:
    """Print what is there and then every change, until the command is interrupted."""
    table = _Table(watched.kinds, session.output)
    stream = resume(session, watched.open, command="stigmer get", token=watched.resume_token)
    async with aclosing(stream):
        async for event in stream:
            if event.type == _BOOKMARK:
                continue
            change = _change(event)
            state = change["resource"]
            if watched.phase and state is not None and state.get("status", {}).get("phase") != watched.phase:
                continue
            table.show(change)


def _change(event: Message) -> dict[str, Any]:
    said = event.resource
    kind = descriptors.kind_by_number(said.kind) if said.kind else None
    state = None
    if kind is not None and event.HasField("state"):
        state = to_plain(from_json(kind, MessageToDict(event.state)))
    return {
        "event": _EVENTS.get(event.type, "unknown"),
        "kind": kind.name if kind is not None else None,
        "id": said.id or None,
        "org": said.org or None,
        "slug": said.slug or None,
        "resume_token": event.resume_token,
        "resource": state,
    }


class _Table:
    """Prints changes as they come; what is there at the beginning sets the widths of the columns."""

    def __init__(self, kinds: Sequence[Kind], output: OutputFormat) -> None:
        self._kinds = kinds
        self._output = output
        self._columns = headings(kinds[0], wide=output is OutputFormat.WIDE)
        self._held: dict[str, list[str]] | None = {}
        self._widths: list[int] = []

    def show(self, change: dict[str, Any]) -> None:
        """Print one change."""
        if self._output is OutputFormat.JSON:
            console.result(console.to_line(change))
        elif self._output is OutputFormat.YAML:
            console.result("---\n" + console.to_yaml(change))
        elif change["event"] == "synced":
            self._begin()
        elif self._output is OutputFormat.NAME:
            console.result(reference_to(_shape(change), self._kinds))
        elif self._held is not None and change["event"] == "created":
            # By id, since a connection that is lost meanwhile begins it all again.
            self._held[change["id"]] = ["-", *row(_shape(change), self._columns)]
        else:
            self._begin()
            self._write([change["event"], *row(_shape(change), self._columns)])

    def _begin(self) -> None:
        """Print the head of the table and what is there already."""
        if self._held is None or self._output is OutputFormat.NAME:
            return
        first, held, self._held = ["EVENT", *self._columns], list(self._held.values()), None
        self._widths = [
            max(len(line[at]) for line in [first, ["updated", *first[1:]], *held]) for at in range(len(first))
        ]
        for line in (first, *held):
            self._write(line)

    def _write(self, line: Sequence[str]) -> None:
        console.result("  ".join(cell.ljust(width) for cell, width in zip(line, self._widths, strict=True)).rstrip())


def _shape(change: dict[str, Any]) -> dict[str, Any]:
    """Return the resource, or what is known of one that is gone."""
    if change["resource"] is not None:
        return change["resource"]
    known = {"name": change["slug"] or "", "slug": change["slug"] or "", "id": change["id"], "org": change["org"] or ""}
    return {"metadata": known}
