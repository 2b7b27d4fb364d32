"""What is taken out of workspaces; light, for the settings to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What is taken out of a workspace.

    Attributes:
        file_bytes: Of one file.
        turn_bytes: In one turn.
        turn_files: Files in one turn.
    """

    file_bytes: int = 64 * 2**20
    turn_bytes: int = 256 * 2**20
    turn_files: int = 500
