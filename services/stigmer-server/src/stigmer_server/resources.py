"""What every verb works with: the store, the kinds, the sealer and the engine, tied together.

A command runs one transaction through `transact`; what has to happen outside the database happens after its
commit, never before, and never instead of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from typing import TypeVar, cast

from stigmer_sqlite.errors import NotFoundError
from stigmer_sqlite.port import Reader, Record, ResourceStore, Transaction

from stigmer_server import parts
from stigmer_server.artifacts import Artifacts
from stigmer_server.calls import INTERNAL, Call
from stigmer_server.engine import Engine
from stigmer_server.errors import MissingError
from stigmer_server.kinds import Kind, Kinds
from stigmer_server.lifecycle import Level
from stigmer_server.onlooker import Onlooker, WouldWrite
from stigmer_server.secrets import Sealer, needs_redaction, redact
from stigmer_server.unit import Saved, Unit, wire_of

T = TypeVar("T")


class Resources:
    """The resources of one server."""

    def __init__(
        self,
        store: ResourceStore,
        kinds: Kinds,
        sealer: Sealer,
        engine: Engine,
        artifacts: Artifacts,
        values: Artifacts,
        files: Artifacts,
        *,
        guarded: bool = False,
        lifecycle: Level = "off",
        trace: Callable[[], str] = str,
    ) -> None:
        """Tie the parts together.

        Args:
            store: The database.
            kinds: The kinds of resources.
            sealer: What seals secrets.
            engine: What runs executions.
            artifacts: The archives of skills.
            values: The large values of executions.
            files: The files of workspaces.
            guarded: Whether callers are told apart, and belong to organizations that exist.
            lifecycle: Of what lifecycle events are published.
            trace: Tells the place in a trace of the call under way.
        """
        self.call = INTERNAL
        """On whose behalf, and how, these resources are used."""
        self.store = store
        self.kinds = kinds
        self.sealer = sealer
        self.engine = engine
        self.artifacts = artifacts
        self.values = values
        self.files = files
        self.guarded = guarded
        self.lifecycle: Level = lifecycle
        self._trace = trace
        self._observers: dict[str, Callable[[str], None]] = {}
        self._commits: set[asyncio.Task[object]] = set()

    def on_behalf_of(self, call: Call) -> Resources:
        """Return the same resources for use by a call."""
        if call is self.call:
            return self
        made = copy(self)
        made.call = call
        return made

    async def transact(self, work: Callable[[Unit], T]) -> T:
        """Run `work` in a transaction, and once that is committed tell the engine; in a dry run, undo it instead.

        What a caller who gives up meanwhile leaves untold, the engine finds by itself, a little later.
        """
        units: list[Unit] = []
        trace = self._trace()

        def run(transaction: Transaction) -> T:
            units[:] = [
                Unit(
                    transaction,
                    self.kinds,
                    self.sealer,
                    self.call,
                    guarded=self.guarded,
                    lifecycle=self.lifecycle,
                    trace=trace,
                )
            ]
            result = work(units[0])
            if self.call.dry_run:
                raise _DryRunOver(result)
            return result

        try:
            result = await self.store.transact(run, tentative=self.call.dry_run)
        except _DryRunOver as over:
            return cast("T", over.result)
        if self._observers:
            self._tell(units[0])
        for kind, id in units[0].outbox.touched:
            self.engine.attend(self.kinds[kind], id)
        return result

    async def look(self, work: Callable[[Unit], T]) -> T | None:
        """As `read`, but None, and nothing done, if it is to write."""
        try:
            return await self.read(work)
        except WouldWrite:
            return None

    async def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work`, which only reads, on what is stored now, without waiting for writers."""

        def run(reader: Reader) -> T:
            return work(
                Unit(
                    Onlooker(reader), self.kinds, self.sealer, self.call, guarded=self.guarded, lifecycle=self.lifecycle
                )
            )

        return await self.store.read(run)

    async def transact_runs(self, work: Callable[[Unit], T]) -> T:
        """As `transact`, but a caller that gives up does not interrupt it: what was begun is committed and told."""
        task = asyncio.create_task(self.transact(work))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        return await asyncio.shield(task)

    async def transact_on(self, kind: Kind, work: Callable[[Unit], T]) -> T:
        """As `transact_runs` where somebody has to hear of a change to the kind's resources, else as `transact`."""
        heard = kind.phases is not None or kind.name in self._observers
        return await (self.transact_runs(work) if heard else self.transact(work))

    async def settle(self) -> None:
        """Wait for the transactions that are still under way, whoever began them."""
        while self._commits:
            await asyncio.wait(tuple(self._commits))

    def observe(self, kind: str, changed: Callable[[str], None]) -> None:
        """Call `changed` with the id of each resource of the kind that was written or removed.

        It is called after the commit, and before whoever asked for the change is answered.
        """
        self._observers[kind] = changed

    def _tell(self, unit: Unit) -> None:
        for kind, id in unit.changed:
            if (observer := self._observers.get(kind)) is not None:
                observer(id)

    async def record(self, kind: Kind, id: str) -> Record:
        """Return the stored record if there is one that the caller may see. Raises: MissingError."""
        try:
            record = await self.store.get(kind.name, id)
        except NotFoundError as error:
            raise MissingError.of(kind.title, id) from error
        self._require_seen(kind, id, record.org_id)
        return record

    async def head(self, kind: Kind, id: str) -> Record:
        """As `record`, without what is stored apart. Raises: MissingError."""
        try:
            record = await self.store.head(kind.name, id)
        except NotFoundError as error:
            raise MissingError.of(kind.title, id) from error
        self._require_seen(kind, id, record.org_id)
        return record

    def _require_seen(self, kind: Kind, id: str, org: str) -> None:
        """Check that the caller may see what belongs to the organization. Raises: MissingError."""
        caller = self.call.caller
        if caller.org is not None and not caller.sees(org, shared=kind.shared):
            raise MissingError.of(kind.title, id)

    async def fetch(self, kind: Kind, id: str) -> bytes:
        """Return a resource as the caller may see it. Raises: MissingError.

        Most resources are passed on as they are stored, so nothing but their encoding is read of them.
        """
        try:
            found = await self.store.encoding(kind.name, id)
        except NotFoundError as error:
            raise MissingError.of(kind.title, id) from error
        self._require_seen(kind, id, found.org_id)
        return self.redacted(kind, parts.joined(kind.name, id, found), head=found.wire)

    def shown(self, kind: Kind, record: Record) -> bytes:
        """Return a record as callers may see it."""
        return self.redacted(kind, wire_of(record), head=parts.head(record))

    def answer(self, saved: Saved) -> bytes:
        """Return what a command saved as the caller may and wants to see it."""
        return _brief(saved) if self.call.brief else self.redacted(saved.kind, saved.wire, head=saved.head)

    def redacted(self, kind: Kind, wire: bytes, *, head: bytes | None = None) -> bytes:
        """Return an encoded resource without its secrets; nothing is decoded when there are none.

        `head`: the part of the encoding in which they would be, where that is known.
        """
        if not needs_redaction(kind, wire if head is None else head):
            return wire
        message = kind.parse(wire)
        redact(kind, message)
        return message.SerializeToString()


def _brief(saved: Saved) -> bytes:
    """Return what tells a resource, its version and its phase, without anything that could be a secret."""
    stored, told = saved.kind.parse(saved.wire), saved.kind.type()
    told.api_version, told.kind = stored.api_version, stored.kind
    told.metadata.CopyFrom(stored.metadata)
    if saved.kind.phases:
        told.status.phase = stored.status.phase
    if saved.kind.name == "agent_execution":
        # Runners, which report often, are told in passing what their agent has not seen.
        told.status.sent_messages.extend(stored.status.sent_messages[stored.status.taken_messages :])
    return told.SerializeToString()


class _DryRunOver(Exception):  # noqa: N818 - it carries a result, and says that all went well
    """Ends the transaction of a dry run, so that the store undoes it."""

    def __init__(self, result: object) -> None:
        super().__init__("dry run")
        self.result = result
