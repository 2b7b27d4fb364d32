"""Send a signal to an execution."""

from __future__ import annotations

import orjson

from stigmer_server import executions, outbox
from stigmer_server.errors import InvalidError, RefusedError, TakenError
from stigmer_server.executions import Once
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, value_to_plain
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit

MAX_BYTES = 512 * 1024
"""Largest payload of a signal, as JSON: runs keep signals in their history until a task takes them."""


async def send_signal(
    resources: Resources, kind: Kind, execution_id: str, name: str, payload: Message, *, key: str = ""
) -> bytes:
    """Have a signal delivered to the execution's run, once, and return the execution; it need not run yet.

    Args:
        resources: The resources, on behalf of the caller.
        kind: The kind of the execution.
        execution_id: Its id.
        name: Name of the signal.
        payload: What it carries, a google.protobuf.Value.
        key: A signal with a key that the execution has had in the last 24 hours is not sent again.

    Raises:
        MissingError: There is no such execution.
        InvalidError: The payload is too large, or cannot be said in JSON.
        TakenError: Another signal was sent with this key.
        RefusedError: The execution has ended.
    """
    value = _json(payload)
    once = (
        Once(id=outbox.named_id(execution_id, "signal", key), digest=outbox.digest_of([name, value])) if key else None
    )

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, execution_id)
        answer = Saved(kind=kind, id=execution_id, wire=stored.SerializeToString())
        if once and (known := once.known(unit)) is not None:
            if known.digest != once.digest:
                raise TakenError(f"another signal was sent to {execution_id} with the idempotency key {key!r}")
            return answer
        if kind.is_finished(stored):
            raise RefusedError(executions.has_ended(kind, stored, "takes no more signals"))
        content = {"name": name, "payload": value, "at": unit.now.ToJsonString()}
        executions.send(unit, kind, stored, executions.SIGNAL, content, once)
        return answer

    return resources.answer(await resources.transact_runs(work))


def _json(payload: Message) -> object:
    try:
        value = value_to_plain(payload)
    except ValueError as error:
        raise InvalidError.of("payload", "json.representable", str(error)) from error
    size = len(orjson.dumps(value))
    if size > MAX_BYTES:
        problem = f"is {size} bytes of JSON; a signal carries at most {MAX_BYTES}: send a reference instead"
        raise InvalidError.of("payload", "signal.payload.size", problem)
    return value
