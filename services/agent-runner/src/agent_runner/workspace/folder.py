"""A workspace that is a folder of this machine, with commands in whatever sandbox this machine has."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stigmer_sandbox import WORKSPACE, Command, CommandError, Limits, Sandbox, beneath, put_files

from agent_runner.errors import WorkspaceFileError
from agent_runner.workspace import files
from agent_runner.workspace.limits import FULL_FILE_BYTES
from agent_runner.workspace.port import Entry, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the commands of one session find.

    Attributes:
        folder: The workspace on this machine.
        owner: Who its files must belong to; None: whoever makes them.
        most_bytes: What it may hold.
        environment: Variables of the commands.
        readable: Further folders that they see, at the same paths.
        network: Whether they have the network.
        limits: What each may use.
    """

    folder: Path
    owner: int | None = None
    most_bytes: int
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    readable: tuple[Path, ...] = ()
    network: bool = False
    limits: Limits = field(default_factory=Limits)


class FolderWorkspace:
    """See `Workspace`.

    Args:
        sandbox: Where commands run.
        place: What they find.
    """

    root = WORKSPACE

    def __init__(self, sandbox: Sandbox, place: Place) -> None:
        self._sandbox = sandbox
        self._place = place
        self._is_full: bool | None = None

    @property
    def id(self) -> str:
        """See `Workspace`."""
        return self._place.folder.name

    @property
    def most_bytes(self) -> int:
        """See `Workspace`."""
        return self._place.most_bytes

    @property
    def folder(self) -> Path | None:
        """See `Workspace`."""
        return self._place.folder

    def seen(self, readable: Path) -> str:
        """See `Workspace`."""
        return str(readable)

    async def run(self, *arguments: str, stdin: bytes = b"", seconds: float | None = None) -> Outcome:
        """See `Workspace`."""
        place = self._place
        if self._is_full is None:
            self._is_full = await self._measured()
        limits = place.limits if seconds is None else place.limits.lasting(seconds)
        command = Command(
            arguments=arguments,
            stdin=stdin,
            environment=place.environment,
            workspace=place.folder,
            readable=place.readable,
            network=place.network,
            limits=replace(limits, file_bytes=FULL_FILE_BYTES) if self._is_full else limits,
        )
        finished = await self._sandbox.run(command)
        self._is_full = await self._measured()
        return Outcome(finished=finished, is_full=self._is_full)

    async def entries(self, *, without: Collection[str] = ()) -> tuple[Entry, ...]:
        """See `Workspace`."""
        return await asyncio.to_thread(files.listed, self._place.folder, without)

    async def read(self, path: str, *, most: int) -> bytes:
        """See `Workspace`."""
        return await asyncio.to_thread(files.read, self._place.folder, path, most)

    async def write(self, path: str, content: bytes) -> None:
        """See `Workspace`."""
        place = self._place
        room = place.most_bytes - await asyncio.to_thread(beneath.held, place.folder, place.most_bytes)
        if len(content) > room:
            raise files.full(place.most_bytes)
        try:
            await asyncio.to_thread(put_files, place.folder, {path: content}, owner=place.owner)
        except CommandError as error:
            raise WorkspaceFileError(str(error)) from None

    async def _measured(self) -> bool:
        return await asyncio.to_thread(_is_full, self._place.folder, self._place.most_bytes)


def _is_full(folder: Path, most: int) -> bool:
    # Without a sandbox around it, a command may have removed it.
    folder.mkdir(mode=0o700, exist_ok=True)
    return beneath.held(folder, most) > most
