"""The instance `<name>-default` that every agent and every workflow has, so that it can be run at once."""

from __future__ import annotations

from stigmer_server.errors import RefusedError, TakenError
from stigmer_server.kinds.port import DEFAULT_SUFFIX, Kind
from stigmer_server.messages import Message, at_path, set_path
from stigmer_server.unit import Unit, assign_id

_ORGANIZATION = 2
"""ApiResourceOwnerScope.organization."""


def ensure(unit: Unit, kind: Kind, owner: Message) -> bool:
    """Make sure that the owner's default instance exists and that the owner's status names it.

    The owner itself need not be stored yet; the caller stores it in the same transaction. Returns whether the
    status changed.

    Raises:
        TakenError: The instance's slug belongs to an instance of another owner.
    """
    child = unit.kinds[kind.default_child]
    if unit.exists(child.name, owner.status.default_instance_id):
        return False
    found = unit.find(child.name, org=_org(owner), slug=_slug(owner))
    if found is None:
        owner.status.default_instance_id = _create(unit, kind, child, owner)
    elif at_path(found, child.parents[0].path) == owner.metadata.id:
        owner.status.default_instance_id = found.metadata.id
    else:
        taken = f"{child.title} with slug {_slug(owner)!r} already exists (id: {found.metadata.id})"
        msg = f"{taken}, so it cannot become the default instance of {owner.metadata.slug!r}"
        raise TakenError(msg)
    return True


def keep(unit: Unit, kind: Kind, instance: Message, stored: Message) -> None:
    """See to it that a default instance stays with its owner. Raises: RefusedError."""
    (parent,) = kind.parents
    owner_id = at_path(stored, parent.path)
    if at_path(instance, parent.path) == owner_id or not unit.exists(parent.kind, owner_id):
        return
    owner = unit.require(parent.kind, owner_id)
    if owner.status.default_instance_id == stored.metadata.id:
        name = f"{kind.title} {stored.metadata.slug} ({stored.metadata.id})"
        msg = f"{name} is the default instance of {owner.metadata.slug!r}, and stays so; make another one"
        raise RefusedError(msg)


def _create(unit: Unit, kind: Kind, child: Kind, owner: Message) -> str:
    instance = child.type()
    instance.api_version = child.described.api_version
    instance.kind = child.title
    metadata = instance.metadata
    metadata.name = (owner.metadata.name or owner.metadata.slug) + DEFAULT_SUFFIX
    metadata.slug = _slug(owner)
    metadata.org = _org(owner)
    metadata.owner_scope = owner.metadata.owner_scope
    set_path(instance, child.parents[0].path, owner.metadata.id)
    display = kind.described.display_name.lower()
    instance.spec.description = f"Default instance of {display} {owner.metadata.name or owner.metadata.slug}"
    assign_id(child, instance)
    unit.insert(child, instance)
    return metadata.id


def _slug(owner: Message) -> str:
    return owner.metadata.slug + DEFAULT_SUFFIX


def _org(owner: Message) -> str:
    return owner.metadata.org if owner.metadata.owner_scope == _ORGANIZATION else ""
