"""Say something to an agent while it runs."""

from __future__ import annotations

from stigmer_server import executions, outbox
from stigmer_server.errors import RefusedError, TakenError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit

MOST_UNSEEN = 100
"""Messages that an agent has not seen yet: each report of its runner is answered with them."""


async def send_message(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Keep a message for the execution's agent, and return the execution.

    It stands in the execution itself: whoever reports on the execution is told what its agent has not seen, and a
    report that would complete it meanwhile does not (`agent_execution.KIND`). So it needs no word to the run.

    Raises:
        MissingError: There is no such execution.
        TakenError: Another message was sent with this key.
        RefusedError: The execution has ended, or has too many messages that its agent has not seen.
    """

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, request.id)
        sent = stored.status.sent_messages
        if (known := _known(sent, request.idempotency_key)) is not None:
            if known.text != request.text:
                msg = f"another message was sent to {request.id} with the idempotency key {request.idempotency_key!r}"
                raise TakenError(msg)
            return Saved(kind=kind, id=request.id, wire=stored.SerializeToString())
        if kind.is_finished(stored):
            raise RefusedError(executions.has_ended(kind, stored, "hears nothing more"))
        if len(sent) - stored.status.taken_messages >= MOST_UNSEEN:
            raise RefusedError(f"{request.id} has {MOST_UNSEEN} messages that its agent has not seen yet")
        sent.add(
            id=f"msg-{outbox.new_id()}",
            text=request.text,
            sent_at=unit.now.ToJsonString(),
            sent_by=unit.call.caller.id,
            idempotency_key=request.idempotency_key,
        )
        return unit.replace_status(kind, stored)

    return resources.answer(await resources.transact_runs(work))


def _known(sent: Message, key: str) -> Message | None:
    return next((each for each in sent if key and each.idempotency_key == key), None)
