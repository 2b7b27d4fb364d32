"""References from one resource to others by slug: where they stand, what is right about them, and what they mean."""

from __future__ import annotations

from stigmer_protos import descriptors

from stigmer_server.errors import InvalidError, Violation
from stigmer_server.kinds import Kind
from stigmer_server.messages import Message, walk
from stigmer_server.unit import Unit

_OLDER_NUMBERS = {"environment": 52}
"""What older clients take for the number of a kind."""


def check(kind: Kind, message: Message) -> None:
    """Hold every reference against what its list is for. Raises: InvalidError, naming all that are wrong."""
    violations: list[Violation] = []
    for references in kind.references:
        number = descriptors.kind_by_enum_name(references.kind).number
        for path, reference in walk(message, references.path):
            if not reference.slug:
                problem = "a reference needs a slug"
                violations.append(Violation(field=f"{path}.slug", rule="reference.slug.required", message=problem))
            if reference.kind not in (0, number, _OLDER_NUMBERS.get(references.kind)):
                problem = f"only resources of kind {references.kind} ({number}) can be named here"
                violations.append(Violation(field=f"{path}.kind", rule="reference.kind.mismatch", message=problem))
    if violations:
        raise InvalidError("; ".join(f"{found.field}: {found.message}" for found in violations[:5]), violations)


def means(unit: Unit, reference: Message, of: Message, kind: Kind, target: Message) -> bool:
    """Tell whether a reference that stands in `of` means the target.

    One without an organization means what has the slug in the organization of the resource that it stands in, or
    else what belongs to the platform.
    """
    if reference.slug != target.metadata.slug:
        return False
    org, home = target.metadata.org, of.metadata.org
    if reference.org or home == org:
        return (reference.org or home) == org
    return not org and unit.find(kind.name, org=home, slug=reference.slug) is None
