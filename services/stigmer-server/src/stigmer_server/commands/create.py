"""Create a resource."""

from __future__ import annotations

from stigmer_server import drafts
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources


async def create(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Store a new resource with what belongs to it, and start it if it is an execution.

    Resource, default instance, session and history are committed together or not at all. An execution is stored
    as pending, whether or not the engine is there to run it.

    Raises:
        InvalidError: The resource breaks a rule of the contract or of its kind.
        TakenError: Its slug, or the id that the caller chose, is in use.
        MissingError: A resource that it cannot do without does not exist.
        RefusedError: The present state forbids it.
    """
    draft = await drafts.draft(kind, request)
    drafts.resolve_slug(kind, draft)
    transact = resources.transact_runs if kind.phases else resources.transact
    saved = await transact(lambda unit: drafts.insert(kind, draft, unit))
    return resources.answer(saved)
