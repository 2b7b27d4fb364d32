"""The kinds of resources by every name a person may use for them. The kinds themselves are the contract's."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind

from stigmer_cli.errors import InvalidInputError

_SHORT = {
    "wf": "workflow",
    "env": "environment",
    "mcp": "mcp_server",
    "run": "workflow_execution",
    "execution": "workflow_execution",
}
_RUNS = ("workflow_execution", "agent_execution")


def usable() -> tuple[Kind, ...]:
    """Return the kinds that this server's tier offers and that have services."""
    return tuple(kind for kind in descriptors.KINDS if kind.tier == "open" and kind.message and kind.services)


@cache
def _spellings() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for kind in usable():
        for spelling in (kind.name, kind.enum_name, kind.display_name, kind.id_prefix):
            word = _plain(spelling)
            found[word] = kind
            found.setdefault(f"{word}s", kind)
    for short, name in _SHORT.items():
        found[short] = found[f"{short}s"] = found[_plain(name)]
    return found


def find(spelling: str) -> Kind | None:
    """Return the kind called so: `Workflow`, `workflows`, `wf`, `workflow_execution`, `workflow-executions`, `wex` …"""
    return _spellings().get(_plain(spelling))


def require(spelling: str) -> Kind:
    """Return the kind called so.

    Raises:
        InvalidInputError: There is none; the nearest is named.
    """
    if kind := find(spelling):
        return kind
    msg = f"there is no kind of resource called {spelling!r}"
    raise InvalidInputError(msg, hint=suggest(_plain(spelling), list(_spellings())) or f"kinds: {', '.join(names())}")


def several(spelling: str) -> tuple[Kind, ...]:
    """Return the kinds called so together: those of all runs for `runs`, else the one of that name.

    Raises:
        InvalidInputError: There is none; the nearest is named.
    """
    if _plain(spelling) in {"run", "runs"}:
        return tuple(descriptors.kind_by_enum_name(name) for name in _RUNS)
    return (require(spelling),)


def names() -> list[str]:
    """Return the names of the usable kinds, as commands show them."""
    return [kind.enum_name for kind in usable()]


def suggest(word: str, choices: list[str]) -> str:
    """Return "did you mean `…`?" for the choice nearest to the word, or nothing when none is near."""
    near = nearest(word, choices)
    return f"did you mean `{near}`?" if near else ""


def nearest(word: str, choices: list[str]) -> str:
    """Return the choice nearest to the word, "" when none is near."""
    near = get_close_matches(word, choices, n=1, cutoff=0.6)
    return near[0] if near else ""


def _plain(spelling: str) -> str:
    return spelling.lower().replace("_", "").replace("-", "").replace(" ", "")
