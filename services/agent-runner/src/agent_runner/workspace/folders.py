"""The folders in which sessions work: made when first needed, kept between executions, removed when long unused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from loguru import logger
from stigmer_sandbox import CommandError, Sandbox, SandboxUnavailableError

from agent_runner.workspace.folder import FolderWorkspace, Place
from agent_runner.workspace.limits import WorkspaceLimits

_DAY = 86_400.0
_SWEEP_SECONDS = 3600.0


class FolderWorkspaces:
    """Sessions' workspaces on this machine; see `Workspaces`.

    Args:
        root: Where they are; made when missing, for this process's user alone.
        sandbox: Where their commands run.
        limits: What bounds each.
    """

    def __init__(self, root: Path, sandbox: Sandbox, limits: WorkspaceLimits) -> None:
        self._root = root
        self._sandbox = sandbox
        self._limits = limits

    @property
    def name(self) -> str:
        """See `Workspaces`."""
        return self._sandbox.name

    async def unusable(self) -> str:
        """See `Workspaces`."""
        try:
            await self._sandbox.check()
        except (SandboxUnavailableError, CommandError) as error:
            return str(error)
        return ""

    async def open(
        self,
        thread: str,
        *,
        environment: Mapping[str, str] | None = None,
        readable: tuple[Path, ...] = (),
        network: bool = False,
    ) -> FolderWorkspace:
        """See `Workspaces`."""
        folder = self._root / name_of(thread)
        await asyncio.to_thread(_made, folder)
        return FolderWorkspace(
            self._sandbox,
            Place(
                folder=folder,
                most_bytes=self._limits.most_bytes,
                environment=environment or {},
                readable=readable,
                network=network and self._limits.network,
                limits=self._limits.command,
            ),
        )

    async def remove(self, thread: str) -> None:
        """See `Workspaces`."""
        await asyncio.to_thread(shutil.rmtree, self._root / name_of(thread), ignore_errors=True)

    async def tidy(self) -> None:
        """See `Workspaces`."""
        while True:
            for name in await asyncio.to_thread(_swept, self._root, time.time() - self._limits.days * _DAY):
                logger.info("workspace {} was removed: unused for {} days", name, self._limits.days)
            await asyncio.sleep(_SWEEP_SECONDS)


def name_of(thread: str) -> str:
    """A workspace's name for a thread, whose id is free text."""
    return hashlib.sha256(thread.encode()).hexdigest()[:32]


def _made(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)
    os.utime(folder)


def _swept(root: Path, before: float) -> list[str]:
    removed: list[str] = []
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.stat().st_mtime < before:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
    return removed
