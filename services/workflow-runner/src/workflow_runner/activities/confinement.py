"""Where the processes of tasks run, and what they may use, as the operator chose."""

from collections.abc import Sequence

from stigmer_dsl import Problem
from stigmer_sandbox import Command, CommandError, Finished, Limits, Sandbox, SandboxUnavailableError, Talk

from workflow_runner.activities.calls import CallFailedError

PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where the machine's programs are looked for."""


class Confinement:
    """The sandbox of a runner, for all kinds of tasks that run processes in it."""

    def __init__(self, sandbox: Sandbox, limits: Limits, *, allow_network: bool) -> None:
        """Run everything in one sandbox.

        Args:
            sandbox: Where processes run.
            limits: What each may use; its time is the call's.
            allow_network: Whether a process whose task asks for the network gets it.
        """
        self.limits = limits
        self._sandbox = sandbox
        self._allow_network = allow_network
        self._works = False

    async def lacking(self, pointers: Sequence[str]) -> list[Problem]:
        """Return what is wrong with tasks that run a process, where none can be run; tried until one could."""
        if not pointers or self._works:
            return []
        try:
            await self._sandbox.check()
        except (SandboxUnavailableError, CommandError) as error:
            return [Problem(code="unsupported", message=str(error), pointer=pointer) for pointer in pointers]
        self._works = True
        return []

    def check_network(self, *, asked: bool) -> None:
        """Refuse a task that asks for the network. Raises: CallFailedError."""
        check_network(asked=asked, allowed=self._allow_network)

    async def run(self, command: Command, what: str, talk: Talk | None = None) -> Finished:
        """Run a command, which is `what`, as `Sandbox.run` does.

        Raises:
            CallFailedError: It cannot be begun.
        """
        try:
            return await self._sandbox.run(command, talk)
        except SandboxUnavailableError as error:
            raise CallFailedError("configuration", str(error)) from None
        except CommandError as error:
            raise CallFailedError("configuration", f"{what} cannot be begun: {error}") from None


def check_network(*, asked: bool, allowed: bool) -> None:
    """Refuse a task that asks for the network where that is not given. Raises: CallFailedError."""
    if asked and not allowed:
        raise CallFailedError("authorization", "this runner gives no process the network, and the task asks for it")
