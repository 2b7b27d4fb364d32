"""The executions in the database, as the engine reads and changes them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

from google.protobuf.json_format import ParseDict
from loguru import logger
from stigmer_protos import descriptors
from stigmer_sqlite.paging import stored_records
from stigmer_sqlite.port import Operation, Query

from stigmer_server import executions, outbox
from stigmer_server.engine.port import Outcome, Standing, Work
from stigmer_server.errors import MissingError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.outbox import Delivery
from stigmer_server.resources import Resources
from stigmer_server.transitions import Cause, Phase, Verdict
from stigmer_server.unit import Unit, wire_of

_PAGE = 200


class Executions:
    """See `Ledger`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kinds = {kind.name: kind for kind in resources.kinds.values() if kind.phases}

    async def waiting(self) -> AsyncIterator[tuple[Kind, str]]:
        """See `Ledger`."""
        for kind in self._kinds.values():
            async for id in self._in_phases(kind, kind.phase_name(kind.phase_number(Phase.PENDING))):
                yield kind, id
        async for delivery in outbox.all_due(self._resources.store):
            yield self._kinds[delivery.kind], delivery.execution

    async def unfinished(self) -> AsyncIterator[tuple[Kind, str]]:
        """See `Ledger`."""
        for kind in self._kinds.values():
            async for id in self._in_phases(kind, *kind.unfinished):
                yield kind, id

    def changes(self) -> AsyncIterator[tuple[Kind, str, bool]]:
        """See `Ledger`."""
        changes = self._resources.store.watch(kinds=tuple(self._kinds))

        async def told() -> AsyncIterator[tuple[Kind, str, bool]]:
            async for change in changes:
                yield self._kinds[change.kind], change.id, change.operation is not Operation.DELETED

        return told()

    async def work(self, kind: Kind, id: str) -> Work:
        """See `Ledger`."""
        message = await self._find(kind, id)
        # Read after the execution: what has become due since then is found the next time.
        due = await outbox.due_of(self._resources.store, id)
        return Work(
            kind=kind,
            id=id,
            org=message.metadata.org if message else "",
            run=executions.run_id(kind, message) if message else kind.run_id(id),
            phase=kind.phase_of(message.status) if message else None,
            deliveries=due,
        )

    async def done(self, delivery: Delivery) -> None:
        """See `Ledger`."""
        await self._resources.transact(lambda unit: unit.outbox.done(delivery))

    async def outcome(self, delivery: Delivery) -> Outcome:
        """See `Ledger`."""
        kind, told = self._kinds[delivery.kind], delivery.payload
        phase = Phase(told["phase"])
        execution: Message | None = None
        if phase is Phase.COMPLETED:
            execution = await self._completed(kind, delivery)
        reason = told["reason"] or f"the execution is {phase}"
        return Outcome(
            token=executions.opened_token(self._resources.sealer, delivery),
            execution=execution,
            phase=phase,
            error=f"{kind.title} {delivery.execution}: {reason}",
            details={"executionId": delivery.execution, "phase": f"EXECUTION_{phase}", "error": told["reason"]},
        )

    async def start_failed(self, work: Work, reason: str) -> None:
        """See `Ledger`."""
        await self._change(work.kind, work.id, work.run, Cause.START_FAILED, Phase.FAILED, error=reason)

    async def standing(self, kind: Kind, id: str) -> Standing | None:
        """See `Ledger`."""
        message = await self._find(kind, id)
        if message is None or kind.is_finished(message):
            return None
        status = message.status
        return Standing(
            kind=kind,
            id=id,
            run=executions.run_id(kind, message),
            phase=kind.phase_of(status),
            reason=status.status_reason,
            created=status.audit.spec_audit.created_at.ToDatetime(UTC).timestamp(),
            recovered=bool(status.recoveries),
            begun=bool(status.started_at),
        )

    async def lost(self, standing: Standing, phase: Phase, reason: str) -> None:
        """See `Ledger`."""
        why = {"reason" if phase is Phase.CANCELLED else "error": reason}
        if await self._change(standing.kind, standing.id, standing.run, Cause.LOST, phase, **why):
            logger.warning("{} {} is {}: {}", standing.kind.title, standing.id, phase, reason)

    async def expire(self, standing: Standing, reason: str) -> None:
        """See `Ledger`."""

        def work(unit: Unit) -> None:
            message = self._unchanged(unit, standing.kind, standing.id, standing.run)
            if message is None:
                return
            verdict = executions.change(unit, standing.kind, message, Cause.EXPIRED, Phase.FAILED, error=reason)
            if verdict is Verdict.CHANGE:
                executions.stop_run(unit, standing.kind, message, reason, at_once=True)
                unit.replace_status(standing.kind, message)

        await self._resources.transact(work)

    async def explain(self, standing: Standing, reason: str) -> None:
        """See `Ledger`."""

        def work(unit: Unit) -> None:
            message = self._unchanged(unit, standing.kind, standing.id, standing.run)
            if message is None or message.status.status_reason != standing.reason:
                return
            if standing.kind.phase_of(message.status) is standing.phase:
                message.status.status_reason = reason
                unit.replace_status(standing.kind, message)

        await self._resources.transact(work)

    async def forget(self) -> None:
        """See `Ledger`."""
        await outbox.forget(self._resources.store, time.time())

    async def _completed(self, kind: Kind, delivery: Delivery) -> Message:
        """Return the execution as it is, or as it was when it was deleted."""
        if "execution" in delivery.payload:
            made: Message = kind.type()
            ParseDict(delivery.payload["execution"], made, descriptor_pool=descriptors.pool())
            return made
        record = await self._resources.record(kind, delivery.execution)
        return kind.parse(self._resources.shown(kind, record))

    async def _change(self, kind: Kind, id: str, run: str, cause: Cause, phase: Phase, **why: str) -> bool:
        """Change the phase of an execution that still has this run; False when it does not, or may not."""

        def work(unit: Unit) -> bool:
            message = self._unchanged(unit, kind, id, run)
            if message is None:
                return False
            if executions.change(unit, kind, message, cause, phase, **why) is not Verdict.CHANGE:
                return False
            unit.replace_status(kind, message)
            return True

        return await self._resources.transact(work)

    @staticmethod
    def _unchanged(unit: Unit, kind: Kind, id: str, run: str) -> Message | None:
        """Return an execution, unless it is gone or a recovery has given it another run."""
        try:
            message = unit.require(kind.name, id)
        except MissingError:
            return None
        return message if executions.run_id(kind, message) == run else None

    async def _find(self, kind: Kind, id: str) -> Any:
        try:
            return kind.parse(wire_of(await self._resources.record(kind, id)))
        except MissingError:
            return None

    async def _in_phases(self, kind: Kind, *phases: str) -> AsyncIterator[str]:
        query = Query(kind=kind.name, where={"phase": phases}, newest_first=False, limit=_PAGE)
        async for record in stored_records(self._resources.store, query):
            yield record.id
