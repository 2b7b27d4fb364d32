"""Pruning: finding the resources that belong to a set of manifests and are declared in it no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli.errors import InvalidInputError
from stigmer_cli.manifests import Manifest
from stigmer_cli.messages import from_json
from stigmer_cli.resources import Listing, Message, Resources

SET_LABEL = "stigmer.ai/set"
"""Label by which the resources of a set are found again."""
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PRUNED = ("workflow_instance", "agent_instance", "workflow", "agent", "mcp_server", "environment")
"""Kinds that manifests declare; what refers to others comes first."""


def join_set(manifests: Sequence[Manifest], name: str) -> None:
    """Give every manifest the label of the set.

    Raises:
        InvalidInputError: The name cannot be a label's value, or a manifest says that it belongs to another set.
    """
    if not _NAME.fullmatch(name):
        msg = f"--set {name}: a set's name has letters, digits, dots, underscores and hyphens, and 63 at the most"
        raise InvalidInputError(msg)
    for manifest in manifests:
        labels = manifest.message.metadata.labels
        said: str = labels.get(SET_LABEL, name)
        if said != name:
            msg = f"{manifest.source}:{manifest.position.line}: {manifest.name} belongs to the set {said!r}"
            raise InvalidInputError(msg, hint=f"take the label {SET_LABEL} out of it, or apply it with --set {said}")
        labels[SET_LABEL] = name


def check_selector(manifests: Sequence[Manifest], selector: str) -> None:
    """Check that the labels that say what belongs together are on every manifest, so that none prunes itself.

    Raises:
        InvalidInputError: The selector is more than `key=value` terms, or a manifest does not fit it.
    """
    wanted: dict[str, str] = {}
    for term in selector.split(","):
        key, equals, value = (part.strip() for part in term.replace("==", "=").partition("="))
        if not equals or not key or not value or key.endswith("!") or "=" in value:
            msg = f"--selector {selector}: to prune, say which labels a resource must have, as key=value"
            raise InvalidInputError(msg, hint="join several with commas")
        wanted[key] = value
    for manifest in manifests:
        labels = dict(manifest.message.metadata.labels)
        if any(labels.get(key) != value for key, value in wanted.items()):
            place = f"{manifest.source}:{manifest.position.line}"
            msg = f"{place}: {manifest.kind.name} {manifest.name} does not have the labels {selector}"
            raise InvalidInputError(msg, hint="give it the labels, or let --set NAME do so")


async def surplus(resources: Resources, manifests: Sequence[Manifest], selector: str) -> list[tuple[Kind, Message]]:
    """Return the resources that the selector fits and no manifest declares, in an order in which they can be deleted.

    They are looked for in the organizations of the manifests, among the kinds that manifests declare. What the server
    makes by itself, such as default instances and runs, has no labels and so is never among them.
    """
    declared = {(manifest.kind.enum_name, manifest.org, manifest.slug) for manifest in manifests}
    found: list[tuple[Kind, Message]] = []
    for name in _PRUNED:
        kind = descriptors.kind_by_enum_name(name)
        for org in sorted({manifest.org for manifest in manifests}):
            entries = resources.list(Listing(kind=kind, org=org, selector=selector))
            found += [(kind, from_json(kind, entry)) async for entry in entries if _key(kind, entry) not in declared]
    return found


def _key(kind: Kind, entry: dict[str, Any]) -> tuple[str, str, str]:
    metadata = entry["metadata"]
    return kind.enum_name, metadata.get("org", ""), metadata.get("slug", "")
