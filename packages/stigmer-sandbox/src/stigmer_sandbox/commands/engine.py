"""The command line of a container engine: Docker's, or Podman's, which understands the same."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from stigmer_sandbox.commands.port import Ending, Finished, Limits, Talk
from stigmer_sandbox.commands.running import run_process
from stigmer_sandbox.errors import SandboxUnavailableError

_INHERITED = frozenset(
    ("HOME", "PATH", "USER", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "REGISTRY_AUTH_FILE")
)
_INHERITED_PREFIXES = ("DOCKER_", "CONTAINER_", "CONTAINERS_")
"""What it needs of this process's environment; keys are not among it."""
_ENGINE_SECONDS = 60.0
_LIMITS = Limits(memory_bytes=2**40, processes=10_000)
"""It is ours, and what it runs has limits of its own."""
_EXCERPT = 500


def find_engine(*names: str) -> str:
    """The path of the first of these programs that is here; "" when none is."""
    return next((found for name in names if (found := shutil.which(name))), "")


class Engine:
    """The engine's command line."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.is_podman = "podman" in Path(program).name
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name in _INHERITED or name.startswith(_INHERITED_PREFIXES) or name.lower().endswith("_proxy")
        }

    async def info(self) -> dict[str, Any]:
        """What it says of itself. Raises: SandboxUnavailableError."""
        self.is_podman = "podman" in (await self.told("--version")).lower()
        said = await self.told("info", "--format", "{{json .}}")
        try:
            told: dict[str, Any] = json.loads(said)
        except ValueError:
            raise SandboxUnavailableError(f"{self._program} says of itself what is no JSON") from None
        if failures := told.get("ServerErrors"):
            raise SandboxUnavailableError(self._refused("info", "; ".join(map(str, failures))))
        return told

    async def told(self, *arguments: str, seconds: float = _ENGINE_SECONDS) -> str:
        """What it answers. Raises: SandboxUnavailableError."""
        ran = await self.ask(*arguments, seconds=seconds)
        if ran.code or ran.ending is not Ending.EXITED:
            raise SandboxUnavailableError(self._refused(arguments[0], said_by(ran)))
        return ran.stdout.decode("utf-8", "replace")

    async def ask(self, *arguments: str, seconds: float = _ENGINE_SECONDS) -> Finished:
        """Have it do something, whatever comes of it. Raises: SandboxUnavailableError."""
        return await self.run(*arguments, stdin=b"", seconds=seconds, most=2**20)

    async def run(self, *arguments: str, stdin: bytes, seconds: float, most: int, talk: Talk | None = None) -> Finished:
        """Run it. Raises: SandboxUnavailableError."""
        try:
            return await run_process(
                (self._program, *arguments),
                stdin=stdin,
                environment=self._environment,
                limits=replace(_LIMITS, seconds=seconds, output_bytes=most),
                remains=lambda _: False,
                talk=talk,
            )
        except OSError as error:
            raise SandboxUnavailableError(f"{self._program} cannot be run: {error}") from error

    def _refused(self, verb: str, why: str) -> str:
        name = Path(self._program).name
        advice = "see that its service runs and that this user may use it, or choose another sandbox"
        return f"`{name} {verb}` fails: {why}; {advice}"


def is_rootless(info: dict[str, Any]) -> bool:
    """Whether its root is nobody else's."""
    of_docker: list[str] = info.get("SecurityOptions") or []
    try:
        of_podman = bool(info["host"]["security"]["rootless"])
    except (KeyError, TypeError):
        of_podman = False
    return of_podman or any("rootless" in each for each in of_docker)


def said_by(ran: Finished) -> str:
    """What a program said, for people."""
    text = (ran.stderr or ran.stdout).decode("utf-8", "replace").strip()
    return text[-_EXCERPT:] or f"exit code {ran.code}"
