"""Go back to an earlier version of a resource."""

from __future__ import annotations

from stigmer_server import drafts, revisions
from stigmer_server.errors import MissingError, RefusedError
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, at_path, set_path
from stigmer_server.resources import Resources
from stigmer_server.secrets import unseal_message
from stigmer_server.unit import Saved, Unit


async def rollback(resources: Resources, kind: Kind, id: str, version: str, *, message: str = "") -> bytes:
    """Make spec, name, labels, annotations and tags of an earlier version the present ones, as a new version.

    Identity, owner and status stay, and so do secrets: those that the earlier version held hold again. The state is
    checked as if it came from a client now. Where nothing differs from the present version, nothing is written, so
    that a rollback may be repeated.

    Args:
        version: The id of a version, or for kinds that have them a tag or hash.
        message: Why, in the words of the caller; kept with the new version.

    Raises:
        MissingError: There is no such resource or version, or a resource that the version needs is gone.
        RefusedError: Resources of this kind do not go back.
        InvalidError: The version breaks a rule that did not hold when it was made.
        UnsealError: A secret of the version cannot be opened with the keys at hand.
    """
    if kind.no_rollback:
        msg = f"{kind.title} resources are not rolled back: {kind.no_rollback}"
        raise RefusedError(msg)
    await resources.record(kind, id)
    entry = await revisions.find(resources, kind, id, version)
    old = kind.parse(revisions.wire_of(entry))
    draft = _draft(resources, kind, old, message)
    await drafts.inspect(kind, draft)

    def work(unit: Unit) -> Saved:
        stored = unit.require(kind.name, id)
        if _creation(stored) != _creation(old):
            # Deleted since, and another one made with its id.
            raise MissingError.of(f"{kind.title} version", f"{id}@{version}")
        draft.metadata.owner_scope = stored.metadata.owner_scope
        renewed, changed = drafts.renew(kind, draft, stored, unit)
        for path in kind.content:
            changed = changed or at_path(stored, path) != at_path(old, path)
            set_path(renewed, path, at_path(old, path))
        if not changed:
            return unit.unchanged(kind, stored)
        return unit.replace(kind, renewed, stored, event="rolled_back")

    return resources.answer(await resources.transact(work))


def _draft(resources: Resources, kind: Kind, old: Message, why: str) -> Message:
    """Return the earlier version as a client could send it now, held against the contract's rules."""
    draft = kind.type()
    draft.CopyFrom(old)
    draft.ClearField("status")
    draft.metadata.version.Clear()
    draft.metadata.version.message = why
    unseal_message(kind, draft, resources.sealer)
    drafts.check_rules(draft)
    return draft


def _creation(message: Message) -> Message:
    return message.status.audit.spec_audit.created_at
