"""Creations that were named by a key: remembered for a day, so that who asks again gets what the first call made.

A creation is remembered in the transaction that makes the resource, so of many calls with one key, at once or one
after the other, one creates and the others find what it made, whatever happens to the server in between. The answer
is kept without its secrets, and of the request only a hash, sealed like a secret because it was made from some.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

from loguru import logger
from stigmer_sqlite.errors import NotFoundError, StoreError
from stigmer_sqlite.port import KindSchema, Query, Record, ResourceStore, Transaction

from stigmer_server.errors import RefusedError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.unit import Saved, Unit, wire_of

SCHEMA = KindSchema(kind="idempotency_key", named=False)
"""The store's kind of these records; no resource of anybody's."""
REMEMBERED_SECONDS = 24 * 3600
_SWEEP_SECONDS = 3600.0
_SWEPT_AT_ONCE = 100
REQUEST = "request"
"""Where the hash of the request is in a record, and the name for which it is sealed there."""


def recall(unit: Unit, kind: Kind, request: Message) -> Saved | None:
    """Return what the call that has used the key before has made, or None when none has in the last day.

    Raises:
        RefusedError: It has made something else: its request was another one.
        UnsealError: The key with which the hash of its request was sealed is gone.
    """
    id = _id(unit, kind)
    try:
        record = unit.transaction.get(SCHEMA.kind, id)
    except NotFoundError:
        return None
    known = json.loads(record.data)
    if known["at"] + REMEMBERED_SECONDS <= unit.now.seconds:
        unit.transaction.delete(SCHEMA.kind, id)
        return None
    if unit.sealer.unseal(known[REQUEST], id=id, name=REQUEST) != _digest(request):
        msg = (
            f"the idempotency key {unit.call.idempotency_key!r} has made {kind.title} {known['made']} from another "
            "request; send that request again, or give this one a key of its own"
        )
        raise RefusedError(msg)
    return Saved(kind=kind, id=known["made"], wire=wire_of(record))


def remember(unit: Unit, request: Message, made: Saved) -> None:
    """Note what the call's key has made; its secrets must be redacted."""
    id = _id(unit, made.kind)
    request_hash = unit.sealer.seal(_digest(request), id=id, name=REQUEST)
    data = json.dumps({"made": made.id, "at": unit.now.seconds, REQUEST: request_hash})
    record = Record(kind=SCHEMA.kind, id=id, org_id=unit.call.caller.org or "", data=data, wire=made.wire)
    unit.transaction.save(record, expected=0)


async def sweep(store: ResourceStore, *, now: float | None = None) -> int:
    """Forget the creations that are older than a day, and return how many those were."""
    limit = (time.time() if now is None else now) - REMEMBERED_SECONDS
    query = Query(kind=SCHEMA.kind, newest_first=False, limit=_SWEPT_AT_ONCE)

    def forget(transaction: Transaction) -> int:
        records = transaction.list(query).records
        old = [record.id for record in records if json.loads(record.data)["at"] <= limit]
        for id in old:
            transaction.delete(SCHEMA.kind, id)
        return len(old)

    swept = 0
    while (count := await store.transact(forget)) > 0:
        swept += count
    return swept


async def keep_swept(store: ResourceStore) -> None:
    """Sweep now and every hour, until it is cancelled."""
    while True:
        try:
            if swept := await sweep(store):
                logger.debug("forgot {} idempotency keys", swept)
        except StoreError as error:
            logger.warning("old idempotency keys stay for now: {}", error)
        await asyncio.sleep(_SWEEP_SECONDS)


def _id(unit: Unit, kind: Kind) -> str:
    """Return the id of the record of the call's key, which is the caller's organization's and the kind's own."""
    org = unit.call.caller.org
    place = json.dumps([kind.name, org, unit.call.idempotency_key])
    return f"{SCHEMA.kind}/{hashlib.sha256(place.encode()).hexdigest()}"


def _digest(request: Message) -> str:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
