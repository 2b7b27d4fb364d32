"""The kinds of resource that this server serves: every module of this folder that has a `KIND`.

To add a kind, add a module; nothing else has to change.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache

from stigmer_server.kinds.port import Kind, Parent, References

__all__ = ["Kind", "Kinds", "registry"]


class Kinds(Mapping[str, Kind]):
    """All kinds by name, with the relations between them seen from both ends."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = dict(kinds)
        self._by_message = {kind.described.message: kind for kind in kinds.values()}

    def __getitem__(self, name: str) -> Kind:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def of_message(self, full_name: str) -> Kind:
        """Return the kind whose resources are such messages. Raises: KeyError."""
        return self._by_message[full_name]

    def children(self, kind: Kind) -> Iterator[tuple[Kind, Parent]]:
        """Yield the kinds that cannot do without this one, and the field that says so."""
        return ((child, parent) for child in self.values() for parent in child.parents if parent.kind == kind.name)

    def referrers(self, kind: Kind) -> Iterator[tuple[Kind, References]]:
        """Yield the kinds that may name this one, and the list in which they do."""
        return (
            (other, references)
            for other in self.values()
            for references in other.references
            if references.kind == kind.name
        )


@cache
def registry() -> Kinds:
    """Return the kinds of this folder."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found: list[Kind] = [module.KIND for module in modules if hasattr(module, "KIND")]
    return Kinds({kind.name: kind for kind in found})
