"""What the model calls the tools of MCP servers: `server__tool`, in letters that every provider accepts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_LONGEST = 64
"""What providers accept at most."""
_TAIL = 8
_ODD = re.compile(r"[^A-Za-z0-9_-]")


def names(tools: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name for each (server, tool), none given twice; the same server and tool keep theirs from run to run.

    A name that had to be changed or cut ends in a hash, so that it does not depend on what other tools there are.
    """
    return {tool: _name(*tool) for tool in tools}


def _name(server: str, tool: str) -> str:
    whole = f"{server}__{tool}"
    plain = _ODD.sub("_", whole)
    # Two underscores in a server's name could make two pairs look alike.
    if plain == whole and len(plain) <= _LONGEST and "__" not in server and not server.endswith("_"):
        return plain
    digest = hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:_TAIL]
    return f"{plain[: _LONGEST - _TAIL - 1]}_{digest}"
