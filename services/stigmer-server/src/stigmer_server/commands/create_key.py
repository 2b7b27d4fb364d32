"""Create an API key, and tell it this once."""

from __future__ import annotations

from stigmer_server import drafts
from stigmer_server.access.keys import new_key
from stigmer_server.errors import InvalidError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message
from stigmer_server.resources import Resources


async def create_key(resources: Resources, kind: Kind, request: Message) -> bytes:
    """Store a new key's hash, and return the resource with the key itself in the hash's place.

    Nobody is told the key again. A dry run tells none, since there would be none.

    Raises:
        InvalidError, TakenError, MissingError: As create; InvalidError also for a call with an idempotency key.
        DeniedError: The caller may not give a key this role.
    """
    if resources.call.idempotency_key:
        problem = "the creation of a key cannot be repeated, because the key is told once; leave this out"
        raise InvalidError.of("x-stigmer-idempotency-key", "api_key.once", problem)
    draft = await drafts.draft(kind, request, resources.call)
    drafts.resolve_slug(kind, draft)
    key, draft.spec.key_hash, draft.spec.fingerprint = new_key()
    saved = await resources.transact(lambda unit: drafts.insert(kind, draft, unit))
    answer = kind.parse(saved.wire)
    answer.spec.key_hash = "" if resources.call.dry_run else key
    return answer.SerializeToString()
