"""The workspaces of sessions at Daytona, each in a sandbox of its own.

Nothing of it is kept here: a sandbox has the name of its session, Daytona stops it when it is unused, and deletes it
when it was stopped for as long as workspaces are kept, whatever becomes of who made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stigmer_sandbox import SandboxUnavailableError

from agent_runner.workspace.daytona.api import DaytonaApi
from agent_runner.workspace.daytona.sandbox import DaytonaSandbox
from agent_runner.workspace.daytona.settings import DaytonaSettings
from agent_runner.workspace.daytona.workspace import DaytonaWorkspace, Wanted
from agent_runner.workspace.folders import name_of
from agent_runner.workspace.limits import WorkspaceLimits

_DAY_MINUTES = 1440
_OURS = "stigmer-"


class DaytonaWorkspaces:
    """See `Workspaces`.

    Args:
        api: The API.
        settings: How sandboxes are made.
        limits: What bounds each workspace.
    """

    name = "sandboxes of Daytona"

    def __init__(self, api: DaytonaApi, settings: DaytonaSettings, limits: WorkspaceLimits) -> None:
        self._api = api
        self._settings = settings
        self._limits = limits

    async def unusable(self) -> str:
        """See `Workspaces`: whether the key is good; nothing is made for it."""
        try:
            await self._api.check()
        except SandboxUnavailableError as error:
            return str(error)
        return ""

    async def open(
        self,
        thread: str,
        *,
        environment: Mapping[str, str] | None = None,
        readable: tuple[Path, ...] = (),
        network: bool = False,
    ) -> DaytonaWorkspace:
        """See `Workspaces`."""
        sandbox = DaytonaSandbox(
            self._api,
            self._settings,
            _name(thread),
            network=network and self._limits.network,
            delete_minutes=max(1, round(self._limits.days * _DAY_MINUTES)),
        )
        return DaytonaWorkspace(sandbox, Wanted(environment=environment or {}, readable=readable, limits=self._limits))

    async def remove(self, thread: str) -> None:
        """See `Workspaces`; a sandbox of ours may be named by its id as well."""
        box = await self._api.find(_name(thread)) or (await self._api.find(thread) if thread else None)
        if box is not None and box.name.startswith(_OURS):
            await self._api.delete(box)

    async def tidy(self) -> None:
        """See `Workspaces`: Daytona does it by itself."""


def _name(thread: str) -> str:
    return f"{_OURS}{name_of(thread)}"
