"""A runner in a process of its own, to be killed and started again."""

import asyncio
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from workflow_runner import names

_START_SECONDS = 60.0


class RunnerProcess:
    """A `workflow-runner`; what it says is kept in one log over all of its lives."""

    def __init__(
        self,
        folder: Path,
        *,
        temporal: str,
        server: str,
        queue: str = names.TASK_QUEUE,
        command: Sequence[str] = ("-m", "workflow_runner"),
        **variables: str,
    ) -> None:
        """Run with the addresses of Temporal and of the server, and further `variables` of the environment.

        `command` is what Python runs: the runner, or what stands for it.
        """
        self._command = command
        self._folder = folder
        self._log = folder / f"runner-{uuid.uuid4().hex}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._environment = {
            "PATH": os.environ["PATH"],
            "TEMPORAL_HOST_PORT": temporal,
            "STIGMER_BACKEND_ENDPOINT": server,
            "TEMPORAL_WORKFLOW_EXECUTION_RUNNER_TASK_QUEUE": queue,
            "TEMPORAL_STICKY_SECONDS": "1",
            **variables,
        }

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process that was started last."""
        if self._process is None:
            raise RuntimeError("it was never started")
        return self._process

    def said(self) -> str:
        """Return what it wrote so far."""
        return self._log.read_text()

    async def spawn(self, *flags: str) -> asyncio.subprocess.Process:
        """Start it, whatever becomes of it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._command, *flags, env=self._environment, stdout=log, stderr=log
            )
        return self._process

    async def start(self) -> None:
        """Start it, and wait until it takes work.

        Raises:
            RuntimeError: It ended instead.
            TimeoutError: It does not in time.
        """
        ready = self._folder / f"ready-{uuid.uuid4().hex}"
        process = await self.spawn("--ready-file", str(ready))
        async with asyncio.timeout(_START_SECONDS):
            while not ready.exists():
                if process.returncode is not None:
                    raise RuntimeError(f"the runner ended with {process.returncode}: {self.said()}")
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """Kill it where it stands (SIGKILL), if it runs, and wait until it is gone."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
