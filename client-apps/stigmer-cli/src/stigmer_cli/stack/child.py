"""One component that is a process of its own: started, watched, started again with back-off, and ended."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from stigmer_cli.errors import UnavailableError
from stigmer_cli.stack.logs import RotatingLog, now_stamp, tail
from stigmer_cli.stack.probes import poll
from stigmer_cli.stack.restarts import RestartPolicy
from stigmer_cli.stack.state import ComponentState, ComponentStatus

PATIENCE = 3
"""How often a process may end before it ever served until its start counts as failed."""
_DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How to run a component."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    """The whole environment of the process."""
    is_ready: Callable[[datetime], Awaitable[bool]]
    """Whether the process that started at the given moment serves by now. Asked about twenty times a second until it
    says so; must not raise."""
    address: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    """What asks it to end."""
    stop_seconds: float = 10.0
    """How long it may take to end after that, before SIGKILL."""


class Child:
    """A supervised process. `on_change` is called after every change of `status`."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        group: int,
        log: RotatingLog,
        on_change: Callable[[], None],
        policy: RestartPolicy | None = None,
    ) -> None:
        self._spec = spec
        self._group = group
        self._log = log
        self._on_change = on_change
        self._policy = policy or RestartPolicy()
        self._state = ComponentState.STARTING
        self._process: asyncio.subprocess.Process | None = None
        self._restarts = 0
        self._started_at = ""
        self._detail = ""
        self._served = False
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None

    @property
    def status(self) -> ComponentStatus:
        """What is to be told of it now."""
        return ComponentStatus(
            name=self._spec.name,
            state=self._state,
            pid=self._process.pid if self._process is not None else 0,
            address=self._spec.address,
            restarts=self._restarts,
            started_at=self._started_at,
            detail=self._detail,
        )

    def start(self) -> None:
        """Begin to run and to watch it."""
        self._supervision = asyncio.create_task(self._supervise(), name=f"supervise {self._spec.name}")

    async def ready(self) -> None:
        """Wait until it serves.

        Raises:
            UnavailableError: It has failed for good, or ended again and again before it ever served.
        """
        while self._state is not ComponentState.RUNNING:
            self._raise_if_hopeless()
            self._changed.clear()
            await self._changed.wait()

    async def failed(self) -> None:
        """Wait for as long as there is hope in it; ends only by raising.

        Raises:
            UnavailableError: As `ready`.
        """
        while True:
            self._raise_if_hopeless()
            self._changed.clear()
            await self._changed.wait()

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL when it takes longer than it may. Never restarts it after this."""
        self._stopping.set()
        if (process := self._process) is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(self._spec.stop_signal)
            try:
                async with asyncio.timeout(self._spec.stop_seconds):
                    await process.wait()
            except TimeoutError:
                self._log.write(f"did not end within {self._spec.stop_seconds:g} s of being asked to: killed")
                with suppress(ProcessLookupError):
                    process.kill()
        if self._supervision is not None:
            await self._supervision
        self._log.close()

    def _raise_if_hopeless(self) -> None:
        never_served = not self._served and self._restarts >= PATIENCE
        if self._state is ComponentState.FAILED or never_served:
            last_words = "".join(f"\n    {line}" for line in tail(self._log.path, 5))
            msg = f"{self._spec.name} does not run: {self._detail or 'it ends as soon as it starts'}{last_words}"
            raise UnavailableError(msg, hint=f"see `stigmer logs {self._spec.name}`")

    async def _supervise(self) -> None:
        while not self._stopping.is_set():
            code = await self._run_once()
            if self._stopping.is_set():
                break
            delay = self._policy.next_delay(time.monotonic())
            ended = f"ended by itself {_describe(code)}"
            if delay is None:
                self._log.write(f"{ended}; it has ended too often and stays down")
                self._become(ComponentState.FAILED, f"{ended}, too often to try again")
                return
            self._log.write(f"{ended}; starting it again in {delay:g} s")
            self._become(ComponentState.WAITING, ended)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            self._restarts += 1
        self._become(ComponentState.STOPPED)

    async def _run_once(self) -> int | str:
        """Run the process to its end; its exit code, or why it could not even start."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(self._spec.environment),
                process_group=self._group,
            )
        except OSError as error:
            return str(error)
        self._process = process
        self._started_at = now_stamp()
        self._become(ComponentState.STARTING)
        if self._stopping.is_set():
            process.terminate()
        relay = asyncio.create_task(self._relay(process))
        readiness = asyncio.create_task(self._watch_readiness(datetime.now(UTC)))
        code = await process.wait()
        readiness.cancel()
        # A grandchild may still hold the pipe; its words are not worth waiting for.
        await asyncio.wait({relay}, timeout=_DRAIN_SECONDS)
        relay.cancel()
        self._process = None
        self._started_at = ""
        return code

    async def _relay(self, process: asyncio.subprocess.Process) -> None:
        while process.stdout is not None and (chunk := await process.stdout.read(65536)):
            self._log.feed(chunk)

    async def _watch_readiness(self, started_at: datetime) -> None:
        await poll(lambda: self._spec.is_ready(started_at))
        self._served = True
        self._become(ComponentState.RUNNING)

    def _become(self, state: ComponentState, detail: str = "") -> None:
        self._state = state
        self._detail = detail
        self._changed.set()
        self._on_change()


def _describe(code: int | str) -> str:
    if isinstance(code, str):
        return f"before it started: {code}"
    return f"with signal {-code}" if code < 0 else f"with exit code {code}"
