"""Descriptions of tools as a session first met them: one that changes later may want to lead the model astray."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mcp_types import Tool


class Pins(Protocol):
    """Remembers hashes for the session of a thread."""

    async def pin(self, thread: str, server: str, hashes: Mapping[str, str]) -> tuple[str, ...]:
        """Remember the hashes of a server's tools; gives the names of those that had another one before."""
        ...


def fingerprint(tool: Tool) -> str:
    """The hash of all that a tool tells the model of itself."""
    told = [tool.name, tool.title, tool.description, tool.input_schema]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
