"""A workspace in a sandbox of Daytona."""

from __future__ import annotations

import asyncio
import base64
import io
import tarfile
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from loguru import logger
from stigmer_sandbox import Ending, Finished, SandboxUnavailableError, beneath, supervised

from agent_runner.errors import WorkspaceFileError
from agent_runner.workspace import files
from agent_runner.workspace.daytona.api import DaytonaError
from agent_runner.workspace.daytona.sandbox import PLACE, SUPERVISOR, DaytonaSandbox
from agent_runner.workspace.limits import FULL_FILE_BYTES, WorkspaceLimits
from agent_runner.workspace.port import MOST_ENTRIES, Entry, Outcome

_SKILLS = f"{PLACE}/skills"
_SPARE_SECONDS = 15.0
_KILLED = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What commands find.

    Attributes:
        environment: Their variables.
        readable: Folders of this machine that they see.
        limits: What bounds them and the workspace.
    """

    environment: Mapping[str, str]
    readable: tuple[Path, ...]
    limits: WorkspaceLimits


class DaytonaWorkspace:
    """See `Workspace`."""

    folder = None

    def __init__(self, sandbox: DaytonaSandbox, wanted: Wanted) -> None:
        self._sandbox = sandbox
        self._wanted = wanted
        self._is_full: bool | None = None
        self._shown: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """See `Workspace`: Daytona's id of the sandbox."""
        return self._sandbox.id

    @property
    def root(self) -> str:
        """See `Workspace`."""
        return self._sandbox.folder

    @property
    def most_bytes(self) -> int:
        """See `Workspace`."""
        return self._wanted.limits.most_bytes

    def seen(self, readable: Path) -> str:
        """See `Workspace`."""
        return f"{_SKILLS}/{readable.name}"

    async def run(self, *arguments: str, stdin: bytes = b"", seconds: float | None = None) -> Outcome:
        """See `Workspace`."""
        await self._sandbox.connect()
        _, is_full = await asyncio.gather(self._show(), self._fullness())
        limits = self._wanted.limits.command
        limits = limits if seconds is None else limits.lasting(seconds)
        said = supervised.request(
            arguments,
            stdin=stdin,
            environment={"HOME": self.root, **self._wanted.environment},
            folder=self.root,
            limits=replace(limits, file_bytes=FULL_FILE_BYTES) if is_full else limits,
            measure=True,
        )
        identifier, place = uuid.uuid4().hex, await self._sandbox.uploaded(said)
        try:
            told = await self._sandbox.api.execute(
                await self._sandbox.ready(),
                f"{SUPERVISOR} run {identifier} {place}",
                folder="/",
                seconds=limits.seconds + _SPARE_SECONDS,
            )
        except DaytonaError as error:
            await self._end(identifier)
            if not error.is_timeout:
                raise
            return self._outcome(_ended(Ending.TIME, limits.seconds))
        except BaseException:
            await asyncio.shield(asyncio.create_task(self._end(identifier)))
            raise
        report = supervised.report(told)
        if report is None and supervised.has_begun(told):
            # The command has ended its supervisor.
            return self._outcome(_ended(Ending.EXITED, 0.0))
        if report is None:
            raise SandboxUnavailableError(f"the sandbox must have python3: {told.strip()[-300:]}")
        self._is_full = report.held > self.most_bytes
        return self._outcome(report.finished)

    async def entries(self, *, without: Collection[str] = ()) -> tuple[Entry, ...]:
        """See `Workspace`."""
        if not await self._sandbox.exists():
            return ()
        listed = await self._sandbox.ask("list", folder=self.root, most=MOST_ENTRIES, without=list(without))
        return tuple(
            Entry(path=path, size=size, modified=modified, is_folder=is_folder)
            for path, size, modified, is_folder in listed
        )

    async def read(self, path: str, *, most: int) -> bytes:
        """See `Workspace`."""
        name = files.checked(path)
        if not await self._sandbox.exists():
            raise files.missing(path)
        place = f"{PLACE}/{uuid.uuid4().hex}"
        match await self._sandbox.ask("get", folder=self.root, path=name, most=most, to=place):
            case {"content": str(content)}:
                return base64.b64decode(content)
            case {"error": "missing"}:
                raise files.missing(path)
            case {"error": "large"}:
                await self._sandbox.ask("drop", place=place)
                raise files.too_large(path, most)
            case _:
                try:
                    return await self._sandbox.api.download(await self._sandbox.ready(), place, most=most)
                finally:
                    await self._sandbox.ask("drop", place=place)

    async def write(self, path: str, content: bytes) -> None:
        """See `Workspace`."""
        name = files.checked(path)
        place = await self._sandbox.uploaded(content)
        answer = await self._sandbox.ask(
            "put", **{"folder": self.root, "path": name, "most": self.most_bytes, "from": place}
        )
        match answer.get("error"):
            case None:
                return
            case "full":
                raise files.full(self.most_bytes)
            case why:
                raise WorkspaceFileError(f"the file {path!r} cannot be put into the workspace: {why}")

    async def _show(self) -> None:
        """Have the folders to be read there, as they are here: who changed them there finds them as they were."""
        if self._shown is None:
            self._shown = asyncio.create_task(self._compare())
        try:
            await asyncio.shield(self._shown)
        except SandboxUnavailableError:
            self._shown = None
            raise

    async def _compare(self) -> None:
        readable = {folder.name: folder for folder in self._wanted.readable}
        if not readable:
            return
        there: dict[str, str] = await self._sandbox.ask("skills", folders=list(readable), place=_SKILLS)
        for name, folder in readable.items():
            if there.get(name) != await asyncio.to_thread(beneath.digest, folder):
                place = await self._sandbox.uploaded(await asyncio.to_thread(_packed, folder))
                await self._sandbox.ask("unpack", **{"from": place, "place": _SKILLS, "name": name})

    async def _fullness(self) -> bool:
        if self._is_full is None:
            held: int = (await self._sandbox.ask("held", folder=self.root, most=self.most_bytes))["held"]
            return held > self.most_bytes
        return self._is_full

    async def _end(self, identifier: str) -> None:
        """End a command, as far as the sandbox can be reached: its supervisor ends it when its time is over."""
        try:
            ready = await self._sandbox.ready()
            command = f"{SUPERVISOR} end {identifier}"
            await self._sandbox.api.execute(ready, command, folder="/", seconds=_SPARE_SECONDS)
        except SandboxUnavailableError as error:
            self._sandbox.forget()
            logger.warning("a command in {} cannot be ended before its time: {}", self._sandbox.name, error)

    def _outcome(self, finished: Finished) -> Outcome:
        return Outcome(finished=finished, is_full=bool(self._is_full))


def _ended(ending: Ending, seconds: float) -> Finished:
    return Finished(code=_KILLED, stdout=b"", stderr=b"", ending=ending, seconds=seconds)


def _packed(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    return packed.getvalue()
