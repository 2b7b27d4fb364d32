"""Create a resource."""

from __future__ import annotations

from collections.abc import Callable

from stigmer_server import drafts, idempotency
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit


async def create(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Store a new resource with what belongs to it, and start it if it is an execution.

    Resource, default instance, session and history are committed together or not at all. An execution is stored
    as pending, whether or not the engine is there to run it. A call with an idempotency key that has made something
    in the last day makes nothing, and returns what was answered then.

    Raises:
        InvalidError: The resource breaks a rule of the contract or of its kind.
        TakenError: Its slug, or the id that the caller chose, is in use.
        MissingError: A resource that it cannot do without does not exist.
        RefusedError: The present state forbids it, or the call's idempotency key belongs to another request.
    """
    draft = await drafts.draft(kind, request, resources.call)
    drafts.resolve_slug(kind, draft)
    if kind.prepare is not None:
        if (answer := await answered(resources, kind, request)) is not None:
            return answer
        await kind.prepare(resources, draft)
    return await store(resources, kind, request, lambda unit: drafts.insert(kind, draft, unit))


async def answered(resources: Resources, kind: Kind, request: Message) -> bytes | None:
    """Return what the call's idempotency key has made already, if anything: what that took may be gone by now."""
    if not resources.call.idempotency_key:
        return None
    known = await resources.look(lambda unit: idempotency.recall(unit, kind, request))
    return None if known is None else resources.answer(known)


async def store(resources: Resources, kind: Kind, request: Message, make: Callable[[Unit], Saved]) -> bytes:
    """Make what a request asks for in one transaction, unless the call's idempotency key has made it already.

    Raises:
        RefusedError: The key belongs to another request.
        What `make` raises.
    """
    if not resources.call.idempotency_key:
        return resources.answer(await resources.transact_on(kind, make))

    def once(unit: Unit) -> Saved:
        if (known := idempotency.recall(unit, kind, request)) is not None:
            return known
        saved = make(unit)
        answer = Saved(kind=kind, id=saved.id, wire=resources.redacted(kind, saved.wire))
        idempotency.remember(unit, request, answer)
        return answer

    return resources.answer(await resources.transact_on(kind, once))
