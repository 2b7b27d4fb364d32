"""The folders in which sessions work: made when first needed, kept between executions, removed when long unused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from loguru import logger
from stigmer_sandbox import CommandError, ContainerSandbox, Sandbox, SandboxUnavailableError, beneath

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
        self._containers = sandbox if isinstance(sandbox, ContainerSandbox) else None
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
        owner = self._containers.owner if self._containers else None
        await asyncio.to_thread(_made, folder, owner)
        return FolderWorkspace(
            self._sandbox,
            Place(
                folder=folder,
                owner=owner,
                most_bytes=self._limits.most_bytes,
                environment=environment or {},
                readable=readable,
                network=network and self._limits.network,
                limits=self._limits.command,
            ),
        )

    async def remove(self, thread: str) -> None:
        """See `Workspaces`."""
        await self._remove(self._root / name_of(thread))

    async def tidy(self) -> None:
        """See `Workspaces`."""
        while True:
            try:
                await self._sweep()
            except (SandboxUnavailableError, OSError) as error:
                logger.warning("workspaces are not tidied up: {}", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _sweep(self) -> None:
        if self._containers is not None:
            await self._containers.tidy()
        before = time.time() - self._limits.days * _DAY
        for folder in await asyncio.to_thread(_unused, self._root, before):
            await self._remove(folder)
            logger.info("workspace {} was removed: unused for {} days", folder.name, self._limits.days)

    async def _remove(self, folder: Path) -> None:
        if self._containers is not None:
            await self._containers.remove(folder)
        await asyncio.to_thread(beneath.remove, folder)


def name_of(thread: str) -> str:
    """A workspace's name for a thread, whose id is free text."""
    return hashlib.sha256(thread.encode()).hexdigest()[:32]


def _made(folder: Path, owner: int | None) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)
    if owner is not None and folder.stat().st_uid != owner:
        _given(folder, owner)
    os.utime(folder)


def _given(folder: Path, owner: int) -> None:
    """Give a folder with all that is in it, from when commands were somebody else, to who they are now."""
    for _, folders, names, here in beneath.walked(folder):
        for name in (*folders, *names):
            os.chown(name, owner, owner, dir_fd=here, follow_symlinks=False)
    # Last, as this tells that all of it was done.
    os.chown(folder, owner, owner)


def _unused(root: Path, before: float) -> list[Path]:
    found: list[Path] = []
    for folder in root.iterdir() if root.is_dir() else ():
        # Another worker that shares the folder may be tidying up, too.
        with contextlib.suppress(FileNotFoundError):
            found += [folder] if folder.stat().st_mtime < before else []
    return found
