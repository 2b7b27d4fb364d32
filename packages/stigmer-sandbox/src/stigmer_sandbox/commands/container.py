"""Commands in containers, run by the command line of Docker or Podman.

A workspace has a container, in which its commands run one after the other or side by side, and which ends by itself
when it was not used for a while: nothing is left behind by whoever made it and is gone. It has nothing of this machine
but the workspace and the folders to read, no rights to gain, and no network unless asked. A command without a
workspace, or that is talked with, has a container of its own. Inside, a supervisor runs the command and ends what it
started (`stigmer_sandbox.commands.supervisor`); the image must have Python for that.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from loguru import logger

from stigmer_sandbox.commands import supervised
from stigmer_sandbox.commands.engine import Engine, is_rootless, said_by
from stigmer_sandbox.commands.port import WORKSPACE, Command, Ending, Finished, Limits, Pipes, Talk
from stigmer_sandbox.commands.scratch import put_files
from stigmer_sandbox.errors import CommandError, SandboxUnavailableError

IMAGE = "docker.io/library/python:3.12"
MANAGED = "ai.stigmer.managed=agent-runner"
OWNER = "ai.stigmer.workspaces"
"""Label: whose containers these are."""
_WORKSPACE_LABEL = "ai.stigmer.workspace"
_ENVIRONMENT = {"HOME": WORKSPACE, "TMPDIR": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - its own
_USER = 1000
"""Who commands are when this process is root."""
_GENERATION_SECONDS = 43_200
"""How long a container is given new commands; it lasts twice as long, so that the last of them has time."""
_SPARE_SECONDS = 15.0
_INSIDE = (*supervised.PYTHON, "-c")
_PULL_SECONDS = 1800.0
_KILLED = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOptions:
    """How containers are made.

    Attributes:
        program: The engine's command line; "" when there is none.
        owner: Whose they are; others' are left alone.
        image: What they are made of; it has Python.
        pull: Whether the image may be fetched.
        idle_seconds: How long one lasts unused.
        user: Who commands are; None: whoever this process is, but never root.
    """

    program: str
    owner: str
    image: str = IMAGE
    pull: bool = True
    idle_seconds: float = 900.0
    user: int | None = None


class ContainerSandbox:
    """See `Sandbox`."""

    def __init__(self, options: ContainerOptions) -> None:
        self._options = options
        self._engine = Engine(options.program)
        self._rootless = False
        self._started: set[str] = set()
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.name = f"containers of {Path(options.program).name or 'no engine'}"

    @property
    def owner(self) -> int | None:
        """Who the workspaces' files must belong to, where that is somebody else than who makes them."""
        user = self._user
        return None if user == os.getuid() or self._rootless else user

    async def check(self) -> None:
        """See `Sandbox`."""
        options = self._options
        if not options.program:
            raise SandboxUnavailableError("neither docker nor podman is found; install one, or choose another sandbox")
        self._rootless = is_rootless(await self._engine.info())
        if (await self._engine.ask("image", "inspect", options.image)).code:
            if not options.pull:
                advice = "fetch it, or allow it (STIGMER_SANDBOX_AUTO_PULL=true)"
                raise SandboxUnavailableError(f"there is no image {options.image} on this machine; {advice}")
            logger.info("fetching the image {} for containers", options.image)
            await self._engine.told("pull", options.image, seconds=_PULL_SECONDS)
        await self.run(Command(arguments=("true",)))

    async def run(self, command: Command, talk: Talk | None = None) -> Finished:
        """See `Sandbox`."""
        identifier = uuid.uuid4().hex
        if command.workspace is None or talk is not None:
            return await self._alone(command, talk, identifier)
        await asyncio.to_thread(put_files, command.workspace, command.files, owner=self.owner)
        said = supervised.request(
            command.arguments,
            stdin=command.stdin,
            environment={**_ENVIRONMENT, **command.environment},
            folder=WORKSPACE,
            limits=command.limits,
        )
        name = self._name(command)
        if name not in self._started:
            await self._start(name, command)
        ran = await self._supervised(name, identifier, said, command.limits)
        if not isinstance(ran, Finished):
            # The container is not there any more, and the command has not begun.
            self._started.discard(name)
            await self._start(name, command)
            ran = await self._supervised(name, identifier, said, command.limits)
        if not isinstance(ran, Finished):
            raise self._unfit(ran)
        return ran

    async def remove(self, workspace: Path) -> None:
        """End and remove the containers of a workspace. Raises: SandboxUnavailableError."""
        await self._remove(f"label={_WORKSPACE_LABEL}={_short(workspace)}")

    async def tidy(self) -> None:
        """Remove containers that have ended and are still there. Raises: SandboxUnavailableError."""
        for status in ("exited", "created", "dead"):
            await self._remove(f"status={status}")

    async def _remove(self, which: str) -> None:
        mine = f"label={OWNER}={self._options.owner}"
        listed = await self._engine.told("ps", "--all", "--quiet", "--filter", mine, "--filter", which)
        if names := listed.split():
            await self._engine.ask("rm", "--force", "--volumes", *names)

    async def _supervised(self, name: str, identifier: str, said: bytes, limits: Limits) -> Finished | str:
        """Run a command in a container that may be there; gives why when it was not begun."""
        inside = ("exec", "--interactive", "--workdir", WORKSPACE, name, *_INSIDE, _text(), "run", identifier)
        try:
            ran = await self._engine.run(
                *inside, stdin=said, seconds=limits.seconds + _SPARE_SECONDS, most=supervised.most_said(limits)
            )
        except BaseException:
            await asyncio.shield(asyncio.create_task(self._end(name, identifier)))
            raise
        told = ran.stdout.decode("utf-8", "replace")
        if (report := supervised.report(told)) is not None:
            return report.finished
        if ran.ending is not Ending.EXITED:
            await self._end(name, identifier)
            return replace(ran, stdout=b"", stderr=b"", ending=Ending.TIME)
        if supervised.has_begun(told):
            # The command has ended its supervisor, and what it started may still run: nothing is left of any of it.
            await self._engine.ask("rm", "--force", "--volumes", name)
            return replace(ran, code=_KILLED, stdout=b"", stderr=b"")
        return said_by(ran)

    async def _end(self, name: str, identifier: str) -> None:
        """End a command, or its container when it cannot be ended."""
        ended = await self._engine.ask("exec", name, *_INSIDE, _text(), "end", identifier)
        if ended.code:
            await self._engine.ask("rm", "--force", "--volumes", name)

    async def _start(self, name: str, command: Command) -> None:
        keep = ("keep", str(self._options.idle_seconds), str(2 * _GENERATION_SECONDS))
        made = ("run", "--detach", *self._arguments(name, command), *_INSIDE, _text(), *keep)
        async with self._starting[name]:
            if name in self._started:
                return
            started = await self._engine.ask(*made)
            if started.code and not await self._is_running(name):
                # One that had ended may have been in the way.
                started = await self._engine.ask(*made)
                if started.code:
                    raise SandboxUnavailableError(f"a container cannot be started: {said_by(started)}")
            self._started.add(name)

    async def _is_running(self, name: str) -> bool:
        """Whether somebody else has started a container of this name; one that has ended is removed."""
        told = await self._engine.ask("inspect", "--format", "{{.State.Running}}", name)
        if told.stdout.strip() == b"true":
            return True
        await self._engine.ask("rm", "--force", "--volumes", name)
        return False

    async def _alone(self, command: Command, talk: Talk | None, identifier: str) -> Finished:
        """Run a command in a container of its own, which is gone afterwards."""
        name = f"stigmer-{identifier}"
        said = supervised.request(
            command.arguments,
            stdin=b"" if talk else command.stdin,
            environment={**_ENVIRONMENT, **command.environment},
            folder=WORKSPACE,
            limits=command.limits,
            talk=talk is not None,
        )
        if command.workspace is not None:
            await asyncio.to_thread(put_files, command.workspace, command.files, owner=self.owner)
        elif command.files:
            raise CommandError("files need a workspace")

        async def introduced(pipes: Pipes) -> None:
            pipes.input.write(said)
            await pipes.input.drain()
            if talk is not None:
                await talk(pipes)

        inside = ("run", "--interactive", *self._arguments(name, command), *_INSIDE, _text(), "run", identifier)
        try:
            ran = await self._engine.run(
                *inside,
                stdin=said,
                seconds=command.limits.seconds + _SPARE_SECONDS,
                most=supervised.most_said(command.limits),
                talk=introduced if talk else None,
            )
        finally:
            # The engine's program may be ended without its container.
            await asyncio.shield(asyncio.create_task(self._engine.ask("rm", "--force", "--volumes", name)))
        if talk is not None:
            return ran
        report = supervised.report(ran.stdout.decode("utf-8", "replace"))
        if report is None:
            raise SandboxUnavailableError(
                f"no command can be run in a container of {self._options.image}: {said_by(ran)}"
            )
        return report.finished

    def _unfit(self, why: str) -> SandboxUnavailableError:
        image = self._options.image
        return SandboxUnavailableError(
            f"no command can be run in a container of {image}, which must have Python: {why}"
        )

    @property
    def _user(self) -> int:
        if self._rootless and not self._engine.is_podman:
            return 0  # which is whoever runs the engine, and nobody else's root
        return self._options.user if self._options.user is not None else os.getuid() or _USER

    def _name(self, command: Command) -> str:
        """The name of a workspace's container, which is another one for commands that find something else."""
        generation = int(time.time() // _GENERATION_SECONDS)
        limits = replace(command.limits, seconds=0, file_bytes=0, output_bytes=0)
        found = repr((self._options, self._user, command.readable, command.network, limits, generation))
        folder = command.workspace or Path()
        return f"stigmer-{_short(folder)}-{hashlib.sha256(found.encode()).hexdigest()[:8]}"

    def _arguments(self, name: str, command: Command) -> Iterator[str]:
        limits, user = command.limits, self._user
        yield from ("--rm", "--init", "--name", name, "--label", MANAGED, "--label", f"{OWNER}={self._options.owner}")
        yield from ("--user", f"{user}:{user}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
        # Where SELinux is, it would not let the container have the folders that it is given.
        yield from ("--security-opt", "label=disable")
        if self._rootless and self._engine.is_podman:
            yield from ("--userns", "keep-id")
        # One supervisor for each command, the container's init and its keeper.
        yield from ("--pids-limit", str(2 * limits.processes + 16))
        yield from ("--memory", str(limits.memory_bytes + 64 * 2**20))
        yield from ("--read-only", "--tmpfs", f"/tmp:rw,exec,mode=1777,size={limits.scratch_bytes}")  # noqa: S108
        if not command.network:
            yield from ("--network", "none")
        for folder in command.readable:
            yield from ("--mount", _mount("bind", folder, str(folder), read_only=True))
        if command.workspace is None:
            yield from ("--tmpfs", f"{WORKSPACE}:rw,exec,mode=1777,size={limits.scratch_bytes}")
        else:
            yield from ("--label", f"{_WORKSPACE_LABEL}={_short(command.workspace)}")
            yield from ("--mount", _mount("bind", command.workspace, WORKSPACE))
        yield from ("--workdir", WORKSPACE, "--entrypoint", "", self._options.image)


def _mount(kind: str, source: Path, target: str, *, read_only: bool = False) -> str:
    """A mount as the engines read it: comma-separated values, quoted where they must be."""
    fields = [f"type={kind}", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    return ",".join('"' + each.replace('"', '""') + '"' if set(each) & set(',"\n') else each for each in fields)


def _text() -> str:
    return supervised.PROGRAM.read_text(encoding="utf-8")


def _short(workspace: Path) -> str:
    return hashlib.sha256(str(workspace).encode()).hexdigest()[:16]
