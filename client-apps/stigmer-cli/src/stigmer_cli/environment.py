"""The places and addresses a command works with, as the environment variables give them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Auth: TypeAlias = Literal["none", "token"]
"""Whom the stack's server lets in: everybody on this machine, or whoever can read the token in the home."""


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
    def blobs(self) -> Path:
        """Where runners keep values too large for Temporal."""
        return self.root / "blobs"

    @property
    def encryption_key(self) -> Path:
        """The key that the server seals secrets with, unless a setting of the server names another."""
        return self.root / "encryption.key"

    @property
    def agents(self) -> Path:
        """What the agent-runner remembers of conversations."""
        return self.root / "agent-runner"

    @property
    def scripts(self) -> Path:
        """Scripts of the scripted model, `NAME.yaml` for `scripted:NAME`."""
        return self.root / "scripts"

    @property
    def token(self) -> Path:
        """The token of the stack's server, which lets its owner do everything."""
        return self.root / "token"

    @property
    def runner_token(self) -> Path:
        """The token of the stack's runners."""
        return self.root / "runner-token"

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
    token: str = ""
    """STIGMER_TOKEN: what to sign in with at a server that is not this home's."""
    token_file: str = ""
    """STIGMER_TOKEN_FILE: a file that holds it."""
    tls: bool = False
    """STIGMER_TLS: the server speaks TLS, whether or not its address says so."""
    ca: str = ""
    """STIGMER_CA: PEM file of the authority that the server's certificate comes from; implies TLS."""
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
            token=variables.get("STIGMER_TOKEN", "").strip(),
            token_file=variables.get("STIGMER_TOKEN_FILE", ""),
            tls=variables.get("STIGMER_TLS", "").lower() in {"1", "true", "yes", "on"},
            ca=variables.get("STIGMER_CA", ""),
            variables=dict(variables),
        )
