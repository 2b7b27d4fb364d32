"""Commands on the machine itself, for operators who say so: limited in time and size, and otherwise trusted."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stigmer_sandbox.commands.local import PATH
from stigmer_sandbox.commands.port import Command, Finished, Talk
from stigmer_sandbox.commands.processes import session_runs
from stigmer_sandbox.commands.running import lowered, run_process
from stigmer_sandbox.commands.scratch import put_files
from stigmer_sandbox.errors import CommandError, SandboxUnavailableError


class HostSandbox:
    """Runs commands with the rights of this process: they can read and change whatever it can, and use the network.

    The environment is still the command's own, a workspace that it is not given is still gone afterwards, and time,
    memory, processes, files and output are still limited. Not a sandbox against anybody who means harm.
    """

    name = "the machine itself"

    async def check(self) -> None:
        """See `Sandbox`."""
        await self.run(Command(arguments=("true",)))

    async def run(self, command: Command, talk: Talk | None = None) -> Finished:
        """See `Sandbox`."""
        if command.workspace is not None:
            return await self._run(command, command.workspace, talk)
        with tempfile.TemporaryDirectory(prefix="stigmer-", ignore_cleanup_errors=True) as folder:
            return await self._run(command, Path(folder), talk)

    async def _run(self, command: Command, workspace: Path, talk: Talk | None) -> Finished:
        if not command.arguments or shutil.which(command.arguments[0], path=PATH) is None:
            program = command.arguments[0] if command.arguments else ""
            raise CommandError(f"there is no program {program!r} on this machine (looked in {PATH})")
        put_files(workspace, command.files)
        environment = {"PATH": PATH, "HOME": str(workspace), "TMPDIR": str(workspace), "LANG": "C.UTF-8"}
        try:
            return await run_process(
                lowered(command.arguments, command.limits),
                stdin=command.stdin,
                environment={**environment, **command.environment},
                limits=command.limits,
                remains=session_runs,
                folder=workspace,
                talk=talk,
            )
        except (OSError, ValueError) as error:
            raise CommandError(f"{command.arguments[0]!r} cannot be begun: {error}") from error


class NoSandbox:
    """Runs nothing, for operators who want no commands at all."""

    name = "none"

    def __init__(self, reason: str) -> None:
        """Say why, to whoever asks for a command."""
        self._reason = reason

    async def check(self) -> None:
        """See `Sandbox`."""
        raise SandboxUnavailableError(self._reason)

    async def run(self, command: Command, talk: Talk | None = None) -> Finished:
        """See `Sandbox`."""
        raise SandboxUnavailableError(self._reason)
