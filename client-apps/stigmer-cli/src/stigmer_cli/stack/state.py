"""What runs and where, as one process writes it and every other command reads it: `stack.json`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any


class ComponentState(Enum):
    """The life of a component."""

    STARTING = "starting"
    """Its process runs, but does not serve yet."""
    RUNNING = "running"
    """It serves."""
    WAITING = "waiting"
    """It ended and will be started again after a pause."""
    FAILED = "failed"
    """It ended too often and stays down."""
    STOPPED = "stopped"
    """It was told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """One component at one moment."""

    name: str
    state: ComponentState
    pid: int
    """0 while it has no process."""
    address: str
    """Empty for a component that listens nowhere."""
    restarts: int
    started_at: str
    """When its present process started: RFC 3339, UTC; empty while it has none."""
    detail: str
    """Why it waits or failed, or what else there is to know of it, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """The whole stack at one moment."""

    version: str
    pid: int
    """The process that owns the stack and serves the API."""
    command: str
    started_at: str
    ready: bool
    """Whether every component serves, or did once and is being brought back."""
    server: str
    """host:port of the API."""
    temporal: str
    """host:port of Temporal."""
    temporal_page: str
    """URL of Temporal's web page; empty with an external cluster."""
    guard_pid: int
    components: tuple[ComponentStatus, ...]
    http: str = ""
    """URL at which the API is offered over HTTP; empty when it is not."""
    auth: str = "none"
    """`token` when the server asks who calls, `none` when it lets in everybody on this machine."""

    @property
    def serving(self) -> bool:
        """Whether the API answers, though runs may have to wait for the rest."""
        return any(item.pid == self.pid and item.state is ComponentState.RUNNING for item in self.components)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        content = asdict(self)
        for component in content["components"]:
            component["state"] = component["state"].value
        return content


def write_status(path: Path, status: StackStatus) -> None:
    """Replace the file in one step, readable by its owner alone."""
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(status.to_dict(), file, indent=2)
    temporary.replace(path)


def _read_component(content: dict[str, Any]) -> ComponentStatus:
    return ComponentStatus(state=ComponentState(content.pop("state")), **content)


def read_status(path: Path) -> StackStatus | None:
    """Return what was last written; None when there is nothing, or a version of another shape."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        components = tuple(_read_component(component) for component in content.pop("components"))
        return StackStatus(components=components, **content)
    except (OSError, ValueError, TypeError, KeyError):
        return None
