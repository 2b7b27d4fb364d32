"""What callers are to an organization, or to the server as a whole."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """What a caller is."""

    VIEWER = "viewer"
    """Reads what belongs to its organization."""
    EDITOR = "editor"
    """Also writes and runs it."""
    OWNER = "owner"
    """Also manages the organization and its keys."""
    RUNNER = "runner"
    """Serves every organization: gets what an execution needs, and reports on it."""
    OPERATOR = "operator"
    """May do everything: whoever holds the server's own token, and the server itself."""
