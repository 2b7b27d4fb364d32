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

from agent_runner.workspace.backend import Place, SandboxBackend
from agent_runner.workspace.limits import WorkspaceLimits

_DAY = 86_400.0
_SWEEP_SECONDS = 3600.0


class Workspaces:
    """Sessions' workspaces on this machine.

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
    def sandbox(self) -> Sandbox:
        """Where commands run."""
        return self._sandbox

    async def unusable(self) -> str:
        """Why no command can be run here; "" when they can."""
        try:
            await self._sandbox.check()
        except (SandboxUnavailableError, CommandError) as error:
            return str(error)
        return ""

    async def open(
        self, thread: str, *, environment: Mapping[str, str], readable: tuple[Path, ...], network: bool
    ) -> SandboxBackend:
        """The tools of a thread's workspace.

        Args:
            thread: The session's thread.
            environment: Variables of its commands.
            readable: Folders that they see beside the workspace.
            network: Whether the agent asks for the network.
        """
        folder = self._root / _name(thread)
        await asyncio.to_thread(_made, folder)
        return SandboxBackend(
            self._sandbox,
            Place(
                folder=folder,
                most_bytes=self._limits.most_bytes,
                environment=environment,
                readable=readable,
                network=network and self._limits.network,
                limits=self._limits.command,
            ),
        )

    async def tidy(self) -> None:
        """Remove what nothing has used for long, now and then, until cancelled."""
        while True:
            for name in await asyncio.to_thread(_swept, self._root, time.time() - self._limits.days * _DAY):
                logger.info("workspace {} was removed: unused for {} days", name, self._limits.days)
            await asyncio.sleep(_SWEEP_SECONDS)


def _name(thread: str) -> str:
    """A folder's name for a thread, whose id is free text."""
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
