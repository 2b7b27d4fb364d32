"""Resources as the rows of a table, in plain data as `messages.to_plain` gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.plain import Json
from stigmer_cli.references import kind_of_id

if TYPE_CHECKING:
    from stigmer_protos.descriptors import Kind

PLAIN, WIDE = ("NAME", "ID", "ORG", "UPDATED"), ("NAME", "ID", "ORG", "VERSION", "CREATED", "UPDATED", "BY", "LABELS")

_PREFIX = "EXECUTION_"


def name_of(resource: dict[str, Any], kind: Kind) -> str:
    """Return what a person names the resource by: its slug, or the id of an execution, whose name says little."""
    metadata = resource["metadata"]
    return metadata["id"] if is_execution(kind) else metadata.get("slug") or metadata["id"]


def reference_to(resource: dict[str, Any], kinds: Sequence[Kind]) -> str:
    """Return KIND/NAME for a resource of one of the kinds."""
    kind = kinds[0] if len(kinds) == 1 else kind_of_id(resource["metadata"]["id"]) or kinds[0]
    return f"{kind.enum_name}/{name_of(resource, kind)}"


def is_execution(kind: Kind) -> bool:
    """Whether resources of the kind are runs."""
    return kind.enum_name.endswith("_execution")


def headings(kind: Kind, *, wide: bool) -> list[str]:
    """Return the headings of a table of the kind."""
    named = list(WIDE if wide else PLAIN)
    if has_phase(kind):
        named.insert(3, "PHASE")
    return named


def has_phase(kind: Kind) -> bool:
    """Whether resources of the kind have a phase."""
    return bool(phases(kind))


def row(resource: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Return the cells of a resource under the given headings."""
    return [_CELLS[column](resource) for column in columns]


def phase_of(resource: dict[str, Any]) -> str:
    """Return the phase as people read it, such as IN_PROGRESS; "" where there is none."""
    phase = str(resource.get("status", {}).get("phase", ""))
    return phase.removeprefix(_PREFIX).removeprefix("PHASE_")


def phases(kind: Kind) -> list[str]:
    """Return the names of the phases that resources of the kind can be in, as people write them: `in-progress`."""
    from stigmer_protos import descriptors

    message: Any = descriptors.message_type(kind.message).DESCRIPTOR
    status = message.fields_by_name.get("status")
    phase = status.message_type.fields_by_name.get("phase") if status is not None else None
    names: list[str] = [value.name for value in phase.enum_type.values if value.number] if phase is not None else []
    return [name.removeprefix(_PREFIX).lower().replace("_", "-") for name in names]


def full_phase(kinds: Sequence[Kind], word: str) -> str:
    """Return the phase called so, as the contract spells it for all kinds that have it.

    Raises:
        InvalidInputError: Resources of the kinds have no phase, or none of this name.
    """
    known = list(dict.fromkeys(name for kind in kinds for name in phases(kind)))
    if not known:
        msg = f"resources of kind {kinds[0].enum_name} have no phase"
        raise InvalidInputError(msg, hint="--phase is for runs, such as `stigmer get runs --phase failed`")
    plain = word.lower().replace("_", "-").removeprefix(_PREFIX.lower().replace("_", "-"))
    if plain not in known:
        msg = f"there is no phase {word!r}"
        raise InvalidInputError(msg, hint=f"phases: {', '.join(known)}")
    return f"{_PREFIX}{plain.replace('-', '_').upper()}"


def can_be(kind: Kind, phase: str) -> bool:
    """Whether resources of the kind can be in the phase, as the contract spells it."""
    return phase.removeprefix(_PREFIX).lower().replace("_", "-") in phases(kind)


def moment(text: str) -> str:
    """Return an RFC 3339 time as it stands in a table: to the second, in UTC."""
    return text[:19].replace("T", " ")


def updated_at(resource: dict[str, Any]) -> str:
    """Return when anything of the resource was last written."""
    return max((_audited(resource, part, "updated_at") for part in ("spec_audit", "status_audit")), key=_instant)


def created_at(resource: dict[str, Any]) -> str:
    """Return when the resource was made."""
    return _audited(resource, "spec_audit", "created_at")


def _instant(text: str) -> datetime:
    """Return a time that can be compared: texts cannot, because their fractions differ in length."""
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)


SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "name": lambda resource: (resource["metadata"].get("name", "").lower(), resource["metadata"]["id"]),
    "created": lambda resource: _instant(created_at(resource)),
    "updated": lambda resource: _instant(updated_at(resource)),
    "phase": lambda resource: (phase_of(resource), _instant(updated_at(resource))),
}
"""What a list can be sorted by."""


def _audited(resource: dict[str, Any], part: str, field: str) -> str:
    return str(resource.get("status", {}).get("audit", {}).get(part, {}).get(field, ""))


def _author(resource: dict[str, Any]) -> str:
    found: Json = resource.get("status", {}).get("audit", {}).get("spec_audit", {}).get("updated_by", {})
    return str(found.get("id", ""))


def _labels(resource: dict[str, Any]) -> str:
    metadata = resource["metadata"]
    labels = [f"{key}={value}" for key, value in sorted(metadata.get("labels", {}).items())]
    return ",".join([*labels, *metadata.get("tags", [])]) or "-"


_CELLS: dict[str, Callable[[dict[str, Any]], str]] = {
    "NAME": lambda resource: resource["metadata"].get("name", ""),
    "ID": lambda resource: resource["metadata"]["id"],
    "ORG": lambda resource: resource["metadata"].get("org", ""),
    "PHASE": phase_of,
    "VERSION": lambda resource: resource["metadata"].get("version", {}).get("id", ""),
    "CREATED": lambda resource: moment(created_at(resource)),
    "UPDATED": lambda resource: moment(updated_at(resource)),
    "BY": _author,
    "LABELS": _labels,
}
