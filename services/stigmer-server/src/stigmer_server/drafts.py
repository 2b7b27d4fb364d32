"""From a request to a new state: the steps that create, update and apply share.

A draft is a copy, so the request is never changed; its status is the server's, never the caller's.
"""

from __future__ import annotations

import asyncio

from stigmer_grpc import InvalidArgumentError, check

from stigmer_server import limits, messages, naming, references
from stigmer_server.calls import Call
from stigmer_server.errors import DeniedError, InvalidError, LostUpdateError, MissingError, TakenError, Violation
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, at_path, set_path
from stigmer_server.unit import Saved, Unit, assign_id

_PLATFORM = 1
"""ApiResourceOwnerScope.platform."""


async def draft(kind: Kind, request: Message, call: Call) -> Message:
    """Return the request as the beginning of a new state, checked by itself.

    Raises:
        InvalidError, TooLargeError: It breaks a rule.
        MissingError, DeniedError: As `place`.
    """
    message = messages.copied(request)
    message.ClearField("status")
    place(message, call)
    if not message.HasField("spec"):
        # The contract's rules see only what is there; without a spec it is an empty one that has to pass.
        message.spec.SetInParent()
        check_rules(message)
    limits.check_metadata(kind, message)
    _check_slug(message)
    references.check(kind, message)
    await inspect(kind, message)
    limits.check_size(kind, message)
    return message


async def inspect(kind: Kind, message: Message) -> None:
    """Have the kind check and complete a new state by itself. Raises: InvalidError."""
    if kind.inspects_long(message):
        await asyncio.to_thread(kind.inspect, message)
    else:
        kind.inspect(message)


def place(message: Message, call: Call) -> None:
    """Put the state into the caller's organization, if the caller has one and the state names none.

    Raises:
        MissingError: It is to belong to an organization that the caller does not see.
        DeniedError: It is to belong to the platform, which is the operator's.
    """
    org = call.caller.org
    if org is None:
        return
    if message.metadata.owner_scope == _PLATFORM:
        msg = "what belongs to the platform is its operator's: set metadata.owner_scope to organization"
        raise DeniedError(msg)
    if message.metadata.org not in ("", org):
        raise MissingError.of("Organization", message.metadata.org)
    message.metadata.org = org


def check_rules(message: Message) -> None:
    """Hold a resource that no request brought as it is against the contract's rules. Raises: InvalidError."""
    try:
        check(message)
    except InvalidArgumentError as error:
        violations = [
            Violation(field=violation.field, rule=violation.rule_id, message=violation.message)
            for violation in error.violations
        ]
        raise InvalidError(error.message, violations) from error


def _check_slug(message: Message) -> None:
    metadata = message.metadata
    if metadata.slug and not naming.is_slug(metadata.slug):
        problem = "a slug is made of lower-case letters, digits and single hyphens, neither first nor last"
        raise InvalidError.of("metadata.slug", "metadata.slug.format", problem)


def resolve_slug(kind: Kind, message: Message) -> None:
    """Derive the slug from the name, unless the caller chose one. Raises: InvalidError."""
    _resolve_slug(kind, message.metadata)
    if kind.is_tenant:
        message.metadata.org = message.metadata.slug


def _resolve_slug(kind: Kind, metadata: Message) -> None:
    if metadata.slug:
        return
    if not metadata.name:
        raise InvalidError.of("metadata.name", "metadata.name.required", "give the resource a name or a slug")
    metadata.slug = naming.slugify(metadata.name)
    if not metadata.slug and kind.named:
        problem = (
            f"no slug can be made of {metadata.name!r}; give metadata.slug, or a name with a letter or digit in it"
        )
        raise InvalidError.of("metadata.name", "metadata.name.sluggable", problem)


def insert(kind: Kind, draft: Message, unit: Unit) -> Saved:
    """Store the draft as a new resource. Raises: InvalidError, MissingError, TakenError and what the kind raises."""
    message = messages.copied(draft)
    metadata = message.metadata
    if not kind.is_tenant:
        unit.require_organization(metadata.org)
    _check_references(message, unit)
    _identify(kind, message, unit)
    if kind.named and (taken := unit.find(kind.name, org=metadata.org, slug=metadata.slug)) is not None:
        raise already_exists(kind, taken)
    kind.settle(message, None, unit)
    _check_parents(kind, message, unit)
    return unit.insert(kind, message)


def already_exists(kind: Kind, taken: Message) -> TakenError:
    """Return the error of a slug that another resource has."""
    return TakenError(f"{kind.title} with slug {taken.metadata.slug!r} already exists (id: {taken.metadata.id})")


def _identify(kind: Kind, message: Message, unit: Unit) -> None:
    """Give the resource its id; one that the caller chose must be well formed and unused."""
    metadata = message.metadata
    if not metadata.id:
        assign_id(kind, message)
    elif not naming.is_id(metadata.id, kind.described.id_prefix):
        problem = f"leave the id out, or give an unused one of the form {kind.described.id_prefix}-<lower-case ULID>"
        raise InvalidError.of("metadata.id", "metadata.id.format", problem)
    elif unit.is_taken(kind.name, metadata.id):
        raise TakenError(f"{kind.title} with id {metadata.id!r} already exists")
    if not metadata.slug:
        metadata.slug = metadata.id


def renew(kind: Kind, draft: Message, stored: Message, unit: Unit) -> tuple[Message, bool]:
    """Return the state that replaces the stored one, and whether spec or metadata differ from it.

    Id, slug, organization and status are the stored ones, whatever the draft says. The message of the version is the
    draft's.

    Raises:
        LostUpdateError: The draft is based on a version that is no longer the stored one.
        InvalidError, MissingError: As `insert`.
        DeniedError: The stored state is not the caller's to change.
    """
    unit.require_writable(kind, stored)
    message = messages.copied(draft)
    _check_references(message, unit)
    old, new = stored.metadata, message.metadata
    if new.version.id and new.version.id != old.version.id:
        found = f"version {new.version.id} of {kind.title} {old.id} is no longer current: version {old.version.id} is"
        raise LostUpdateError(found)
    new.id, new.slug, new.org = old.id, old.slug, old.org
    new.name = new.name or old.name
    new.version.CopyFrom(old.version)
    why = draft.metadata.version.message
    _keep_fixed(kind, message, stored)
    inspected = messages.copied(message.status)
    message.status.CopyFrom(stored.status)
    kind.settle(message, stored, unit)
    # After the kind has said what else is secret.
    unit.seal(kind, message, stored)
    _check_parents(kind, message, unit)
    changed = message.spec != stored.spec or message.metadata != stored.metadata
    # What is said about a change is no change.
    new.version.message = why
    if changed:
        for field, _ in inspected.ListFields():
            # Lists would be joined.
            message.status.ClearField(field.name)
        message.status.MergeFrom(inspected)
    return message, changed


def _check_references(message: Message, unit: Unit) -> None:
    """Refuse references out of the caller's organization: whoever follows them later may see more than the caller.

    Raises:
        InvalidError: The state names a resource of another organization.
    """
    org = unit.call.caller.org
    if org is None:
        return
    for path, reference in messages.references(message):
        if reference.org not in ("", org):
            problem = f"names a resource of organization {reference.org!r}; those of {org!r} and the platform's may be"
            raise InvalidError.of(f"{path}.org", "reference.org", problem)


def _keep_fixed(kind: Kind, message: Message, stored: Message) -> None:
    empty = kind.type()
    for path in kind.fixed:
        old, new = at_path(stored, path), at_path(message, path)
        if new == old:
            continue
        if new != at_path(empty, path):
            raise InvalidError.of(path, "field.fixed", f"keeps its first value ({old}); leave it out")
        if isinstance(old, str):
            set_path(message, path, old)
        else:
            new.CopyFrom(old)


def _check_parents(kind: Kind, message: Message, unit: Unit) -> None:
    for parent in kind.parents:
        unit.require_exists(parent.kind, at_path(message, parent.path))
