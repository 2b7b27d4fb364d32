"""Delete a resource, and what exists only because of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

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
_COUNTED = 1000
"""How many that stand in the way are counted; of more it is only told that there are."""
_TOLD = 10_000
"""How many of what went are named in an answer, which has a limit."""
_BATCH = 100
"""How many of an organization's resources go in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A resource that was deleted, or would be."""

    kind: Kind
    id: str
    org: str
    slug: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What a deletion did."""

    entries: tuple[Gone, ...]
    """What went, what depends on others before what it depends on: the first ten thousand, and the resource itself."""
    total: int
    saved: Saved
    """The resource itself, as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dependent:
    kind: Kind
    id: str
    slug: str
    owned: bool = True
    """Whether it goes with the resource; one that only names the resource stays, with the name in it."""
    blocking: bool = True
    """Whether the resource can only be deleted by force as long as this is there."""

    def __str__(self) -> str:
        return f"{self.kind.title} {self.slug} ({self.id})"


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
    deletion = await delete_all(resources, kind, id, force=force)
    if reason and not resources.call.dry_run:
        logger.info("{} {} was deleted by {}: {!r}", kind.title, id, resources.call.caller.id, reason)
    return resources.answer(deletion.saved)


async def delete_all(resources: Resources, kind: Kind, id: str, *, force: bool = False) -> Deletion:
    """Do as `delete`, and tell everything that went.

    An organization is emptied little by little before it goes itself, with its keys, so that nobody waits for long.
    Where that is interrupted, it has less in it than before, and can be deleted again.
    """
    entries: list[Gone] = []
    total = 0
    more = kind.is_tenant and force and not resources.call.dry_run
    while more:
        gone, more = await resources.transact_runs(lambda unit: _remove_some(unit, kind, id))
        entries += gone[: _TOLD - len(entries)]
        total += len(gone)

    def work(unit: Unit) -> tuple[list[Gone], Saved]:
        message = unit.require(kind.name, id)
        unit.require_writable(kind, message)
        found = list(_permitted(kind, message, unit, force=force))
        # Who depends in two ways goes once.
        owned = {dependent.id: dependent for dependent in found if dependent.owned}
        gone = [_removed(unit, dependent.kind, dependent.id) for dependent in owned.values()]
        if kind.is_tenant:
            while _forget(message.metadata.slug, unit):
                pass
        saved = unit.delete(kind, id)
        return [*gone, _gone(saved)], saved

    gone, saved = await resources.transact_runs(work)
    entries += [*gone[:-1][: _TOLD - len(entries)], gone[-1]]
    return Deletion(entries=tuple(entries), total=total + len(gone), saved=saved)


def _remove_some(unit: Unit, kind: Kind, id: str) -> tuple[list[Gone], bool]:
    """Remove some of what an organization has but its keys, and return what, and whether there may be more."""
    message = unit.require(kind.name, id)
    unit.require_writable(kind, message)
    found = list(islice((each for each in _belonging(kind, message, unit) if each.blocking), _BATCH))
    gone = [_removed(unit, dependent.kind, dependent.id) for dependent in found]
    return gone, len(found) == _BATCH or _forget(message.metadata.slug, unit)


def _removed(unit: Unit, kind: Kind, id: str) -> Gone:
    return _gone(unit.delete(kind, id))


def _gone(saved: Saved) -> Gone:
    metadata = saved.kind.parse(saved.wire).metadata
    return Gone(kind=saved.kind, id=metadata.id, org=metadata.org, slug=metadata.slug)


def _permitted(kind: Kind, message: Message, unit: Unit, *, force: bool) -> Iterator[_Dependent]:
    """Yield what depends on the resource, unless that is in the way. Raises: RefusedError, once all were looked at."""
    blocking: list[_Dependent] = []
    for dependent in _dependents(kind, message, unit):
        if dependent.blocking and not force:
            blocking.append(dependent)
        if len(blocking) > _COUNTED:
            break
        yield dependent
    if blocking:
        raise RefusedError(_refusal(kind, message, blocking))


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
            blocking = record.id != own and not child.incidental(found)
            yield _Dependent(kind=child, id=record.id, slug=record.slug, blocking=blocking)
    for other, listed in unit.kinds.referrers(kind):
        yield from _referring(other, listed, kind, message, unit)


def _belonging(kind: Kind, message: Message, unit: Unit) -> Iterator[_Dependent]:
    """Yield what belongs to an organization, what depends on others before what it depends on.

    Its keys go with it, and do not stand in the way.
    """
    for other in sorted(unit.kinds.values(), key=lambda other: _depth(unit, other), reverse=True):
        if other is not kind:
            for record in unit.records(other.name, org=message.metadata.slug):
                yield _Dependent(kind=other, id=record.id, slug=record.slug, blocking=other.name != API_KEY)


def _depth(unit: Unit, kind: Kind) -> int:
    """Return how many kinds stand above a kind."""
    return max((1 + _depth(unit, unit.kinds[parent.kind]) for parent in kind.parents), default=0)


def _forget(org: str, unit: Unit) -> bool:
    """Drop a batch of what is kept of an organization beside its resources, and tell whether there may be more.

    A later one of its name is to find nothing.
    """
    dropped = 0
    for kept in (*cloud_events.SCHEMAS, event_listeners.SCHEMA, idempotency.SCHEMA):
        for record in list(islice(unit.records(kept.kind, org=org), _BATCH - dropped)):
            unit.transaction.delete(kept.kind, record.id)
            dropped += 1
    return dropped == _BATCH


def _referring(other: Kind, listed: References, kind: Kind, message: Message, unit: Unit) -> Iterator[_Dependent]:
    """Yield the resources that name this one; a slug is found through an index, and may be another's as well."""
    for record in unit.records(other.name, label=naming_label(kind.name, message.metadata.slug)):
        found = other.parse(wire_of(record))
        named = (reference for _, reference in walk(found, listed.path))
        if any(references.means(unit, reference, found, kind, message) for reference in named):
            yield _Dependent(kind=other, id=record.id, slug=record.slug, owned=False)


def _refusal(kind: Kind, message: Message, dependents: list[_Dependent]) -> str:
    shown = ", ".join(str(dependent) for dependent in dependents[:_SHOWN])
    more = f" and {len(dependents) - _SHOWN} more" if len(dependents) > _SHOWN else ""
    if len(dependents) > _COUNTED:
        more = f" and more than {_COUNTED - _SHOWN} others"
    name = f"{kind.title} {message.metadata.slug} ({message.metadata.id})"
    return f"{name} is still needed by {shown}{more}; delete those first, or force it"
