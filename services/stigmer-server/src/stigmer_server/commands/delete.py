"""Delete a resource, and what exists only because of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loguru import logger

from stigmer_server import cloud_events, event_listeners, idempotency, limits, references
from stigmer_server.access.keys import KIND as API_KEY
from stigmer_server.errors import InvalidError, RefusedError
from stigmer_server.kinds import Kind
from stigmer_server.kinds.port import References
from stigmer_server.labels import naming_label
from stigmer_server.messages import Message, walk
from stigmer_server.resources import Resources
from stigmer_server.unit import Saved, Unit, wire_of

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dependent:
    kind: Kind
    message: Message
    owned: bool = True
    """Whether it goes with the resource; one that only names the resource stays, with the name in it."""
    blocking: bool = True
    """Whether the resource can only be deleted by force as long as this is there."""

    def __str__(self) -> str:
        metadata = self.message.metadata
        return f"{self.kind.title} {metadata.slug} ({metadata.id})"


async def delete(resources: Resources, kind: Kind, id: str, *, force: bool = False, reason: str = "") -> bytes:
    """Remove the resource with its history and what was made only for it, and return it as it was.

    That is its default instance, and the sessions that were opened for single executions.

    An execution that still runs is cancelled. Finished executions outlive what they ran: they depend on nothing.

    Args:
        force: Also remove the instances, sessions and running executions that depend on it, and let
            those that only refer to it keep a reference to nothing.
        reason: Why, in the caller's words. The log tells it; the history that it could be kept in goes, too.

    Raises:
        InvalidError: The reason is too long.
        MissingError: There is no such resource.
        RefusedError: Something depends on it; the error names what.
    """
    if len(reason) > limits.MESSAGE:
        problem = f"has {len(reason)} characters, and {limits.MESSAGE} are the most"
        raise InvalidError.of("version_message", "version_message.length", problem)
    gone = await delete_all(resources, kind, id, force=force)
    if reason and not resources.call.dry_run:
        logger.info("{} {} was deleted by {}: {!r}", kind.title, id, resources.call.caller.id, reason)
    return resources.answer(gone[-1])


async def delete_all(resources: Resources, kind: Kind, id: str, *, force: bool = False) -> list[Saved]:
    """Do as `delete`, and return everything that went: what depends on others before what it depends on."""

    def work(unit: Unit) -> list[Saved]:
        message = unit.require(kind.name, id)
        unit.require_writable(kind, message)
        dependents = list(_dependents(kind, message, unit))
        blocking = [dependent for dependent in dependents if dependent.blocking]
        if blocking and not force:
            raise RefusedError(_refusal(kind, message, blocking))
        # Who depends in two ways goes once.
        owned = {found.message.metadata.id: found.kind for found in dependents if found.owned}
        gone = [unit.delete(owner, dependent) for dependent, owner in owned.items()]
        if kind.is_tenant:
            _forget(message.metadata.slug, unit)
        return [*gone, unit.delete(kind, id)]

    return await resources.transact_runs(work)


def _dependents(kind: Kind, message: Message, unit: Unit) -> Iterator[_Dependent]:
    """Yield what depends on the resource, at any distance, innermost first."""
    if kind.is_tenant:
        yield from _belonging(kind, message, unit)
    own = message.status.default_instance_id if kind.default_child else ""
    for child, parent in unit.kinds.children(kind):
        where = {parent.index: message.metadata.id, **({"phase": child.unfinished} if child.phases else {})}
        for record in unit.records(child.name, where):
            found = child.parse(wire_of(record))
            yield from _dependents(child, found, unit)
            yield _Dependent(kind=child, message=found, blocking=record.id != own and not child.incidental(found))
    for other, listed in unit.kinds.referrers(kind):
        yield from _referring(other, listed, kind, message, unit)


def _belonging(kind: Kind, message: Message, unit: Unit) -> Iterator[_Dependent]:
    """Yield what belongs to an organization; its keys go with it, and do not stand in the way."""
    for other in unit.kinds.values():
        if other is not kind:
            for record in unit.records(other.name, org=message.metadata.slug):
                found = other.parse(wire_of(record))
                yield _Dependent(kind=other, message=found, blocking=other.name != API_KEY)


def _forget(org: str, unit: Unit) -> None:
    """Drop what is kept of an organization beside its resources, so that a later one of its name finds nothing."""
    for kept in (*cloud_events.SCHEMAS, event_listeners.SCHEMA, idempotency.SCHEMA):
        for record in unit.records(kept.kind, org=org):
            unit.transaction.delete(kept.kind, record.id)


def _referring(other: Kind, listed: References, kind: Kind, message: Message, unit: Unit) -> Iterator[_Dependent]:
    """Yield the resources that name this one; a slug is found through an index, and may be another's as well."""
    for record in unit.records(other.name, label=naming_label(kind.name, message.metadata.slug)):
        found = other.parse(wire_of(record))
        named = (reference for _, reference in walk(found, listed.path))
        if any(references.means(unit, reference, found, kind, message) for reference in named):
            yield _Dependent(kind=other, message=found, owned=False)


def _refusal(kind: Kind, message: Message, dependents: list[_Dependent]) -> str:
    shown = ", ".join(str(dependent) for dependent in dependents[:_SHOWN])
    more = f" and {len(dependents) - _SHOWN} more" if len(dependents) > _SHOWN else ""
    name = f"{kind.title} {message.metadata.slug} ({message.metadata.id})"
    return f"{name} is still needed by {shown}{more}; delete those first, or force it"
