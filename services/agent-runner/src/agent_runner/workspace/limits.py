"""What bounds workspaces; light, for the settings to import."""

from __future__ import annotations

from dataclasses import dataclass, field

from stigmer_sandbox import Limits

FULL_FILE_BYTES = 1024
"""What a file may hold that is written while the workspace holds too much: enough for nothing but tidying up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceLimits:
    """What bounds a session's workspace.

    Attributes:
        most_bytes: What it may hold.
        days: How long it is kept when nothing uses it.
        command: What each command may use.
        network: Whether an agent that asks for the network gets it.
    """

    most_bytes: int = 1024 * 2**20
    days: float = 30.0
    command: Limits = field(default_factory=Limits)
    network: bool = True
