"""The places and addresses a command works with, as the environment variables give them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The folder that holds everything of the local stack, `~/.stigmer` unless STIGMER_HOME says otherwise."""

    root: Path

    @property
    def lock(self) -> Path:
        """Locked for as long as a process owns the stack and its database."""
        return self.root / "stack.lock"

    @property
    def state(self) -> Path:
        """What runs, and where."""
        return self.root / "stack.json"

    @property
    def logs(self) -> Path:
        """One log file a component, and its rotated predecessors."""
        return self.root / "logs"

    @property
    def database(self) -> Path:
        """The server's database."""
        return self.root / "stigmer.db"

    @property
    def storage(self) -> Path:
        """The server's artifacts."""
        return self.root / "storage"

    @property
    def encryption_key(self) -> Path:
        """The key that the server seals secrets with, unless a setting of the server names another."""
        return self.root / "encryption.key"

    @property
    def temporal_database(self) -> Path:
        """The database of the Temporal development server."""
        return self.root / "temporal.db"

    def create(self) -> None:
        """Make the folder, readable by its owner alone."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True, mode=0o700)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the environment variables say."""

    home: Home
    server_address: str
    """STIGMER_SERVER_ADDRESS: talk to this server and to no local stack."""
    temporal_address: str
    """STIGMER_TEMPORAL_ADDRESS: an existing Temporal cluster that the stack uses instead of its own."""
    variables: Mapping[str, str]
    """All of them, for child processes."""

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Environment:
        """Read the variables; an empty one counts as unset."""
        root = variables.get("STIGMER_HOME") or "~/.stigmer"
        return cls(
            home=Home(root=Path(root).expanduser().absolute()),
            server_address=variables.get("STIGMER_SERVER_ADDRESS") or variables.get("STIGMER_SERVER_ADDR") or "",
            temporal_address=variables.get("STIGMER_TEMPORAL_ADDRESS", ""),
            variables=dict(variables),
        )
