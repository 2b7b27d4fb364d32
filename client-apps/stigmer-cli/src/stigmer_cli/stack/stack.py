"""The local stack as one object: everything of it starts when it is entered and is gone when it is left."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from stigmer_cli import __version__
from stigmer_cli.environment import Auth, Environment
from stigmer_cli.errors import ConflictError, UnavailableError
from stigmer_cli.stack import runners, temporal
from stigmer_cli.stack.child import Child, ChildSpec
from stigmer_cli.stack.guarding import Guard
from stigmer_cli.stack.lock import Holder, StackLock, find_holder
from stigmer_cli.stack.logs import RotatingLog, now_stamp
from stigmer_cli.stack.ports import LOOPBACK, choose_port
from stigmer_cli.stack.probes import poll
from stigmer_cli.stack.server import NOT_ENTERED, PREFERRED_PORT, EmbeddedServer
from stigmer_cli.stack.state import ComponentState, ComponentStatus, StackStatus, write_status
from stigmer_cli.stack.tokens import make_tokens

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

SERVER = "stigmer-server"
TEMPORAL = "temporal"
_DEFAULT_NAMESPACE = "default"
_EXTERNAL_TEMPORAL_SECONDS = 30.0


class Stack:
    """The stack of a home folder, owned by this process. An async context manager.

    Entered, the API answers and everything else is on its way up; `ready` waits for it. Left, the runners, the server
    and Temporal have ended, in this order, whatever happened before. Should this process be killed, the guard ends the
    rest.

    Args:
        environment: Where the home is, and what the children inherit.
        command: What this process was started as, for whoever finds the stack taken.
        auth: Whom the server lets in over a socket: `token`, whoever can read the token in the home; `none`, everybody
            on this machine.
        http: Whether the server also offers HTTP.
    """

    def __init__(self, environment: Environment, *, command: str, auth: Auth = "token", http: bool = False) -> None:
        self._auth: Auth = auth
        self._with_http = http
        self._environment = environment
        self._home = environment.home
        self._holder = Holder(pid=os.getpid(), command=command, started_at=now_stamp())
        self._lock = StackLock(self._home.lock)
        self._external = bool(environment.temporal_address)
        # A Temporal of ours has this one namespace; someone else's may have given us another.
        named = environment.variables.get("TEMPORAL_NAMESPACE", "") if self._external else ""
        self._namespace = named or _DEFAULT_NAMESPACE
        self._exit = AsyncExitStack()
        self._guard: Guard | None = None
        self._temporal: Child | None = None
        self._server: EmbeddedServer | None = None
        self._runners: list[Child] = []
        self._light: list[Child] = []
        self._starting: asyncio.Task[None] | None = None
        self._was_ready = False
        self._temporal_address = ""
        self._temporal_page = ""
        self._server_address = ""
        self._http_url = ""

    async def __aenter__(self) -> Stack:
        """Start everything.

        Raises:
            ConflictError: Another process owns the stack of this home; it is named.
            UnavailableError: The server or Temporal cannot be started at all.
        """
        self._home.create()
        if not self._lock.acquire(self._holder):
            raise _taken(find_holder(self._home.lock))
        self._exit.callback(self._lock.release)
        self._exit.callback(self._home.state.unlink, missing_ok=True)
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._exit.aclose()

    @property
    def status(self) -> StackStatus:
        """What runs now."""
        return StackStatus(
            version=__version__,
            pid=self._holder.pid,
            command=self._holder.command,
            started_at=self._holder.started_at,
            ready=self._was_ready,
            server=self._server_address,
            temporal=self._temporal_address,
            temporal_page=self._temporal_page,
            guard_pid=self._guard.pid if self._guard is not None else 0,
            auth=self._auth,
            http=self._http_url,
            components=(self._server_status(), self._temporal_status(), *(runner.status for runner in self._runners)),
        )

    def channel(self) -> Channel:
        """Return a channel to the server that needs no socket."""
        if self._server is None:
            raise RuntimeError(NOT_ENTERED)
        return self._server.channel()

    async def ready(self) -> None:
        """Wait until every component serves.

        Raises:
            UnavailableError: One does not come up; it says which, and its last words.
        """
        async with asyncio.TaskGroup() as group:
            for child in self._children():
                group.create_task(child.ready())
            if self._external:
                group.create_task(self._reach_external_temporal())
        self._was_ready = True
        self._write()

    async def broken(self) -> None:
        """Wait for as long as workflows can be run here; ends only by raising.

        Raises:
            UnavailableError: A component that they need failed for good, or the guard is gone.
        """
        async with asyncio.TaskGroup() as group:
            for child in self._light:
                group.create_task(child.failed())
            group.create_task(self.unguarded())

    async def unguarded(self) -> None:
        """Wait for as long as nothing could be left behind; ends only by raising.

        Components that fail for good do not end this: the others are of use without them, and `status` tells.

        Raises:
            UnavailableError: The guard is gone.
        """
        if self._guard is not None:
            await self._guard.wait()
        msg = "the guard of the stack's processes was killed"
        raise UnavailableError(msg, hint="start again: `stigmer up`")

    async def _start(self) -> None:
        if self._auth == "token":
            make_tokens(self._home)
        self._guard = guard = await Guard.start()
        self._exit.push_async_callback(guard.release)
        self._server_address = f"{LOOPBACK}:{choose_port(PREFERRED_PORT)}"
        if self._external:
            self._temporal_address = self._environment.temporal_address
        else:
            self._temporal = self._child(self._temporal_spec(), guard)
            self._exit.push_async_callback(self._temporal.stop)
        server = EmbeddedServer(
            self._home,
            temporal_address=self._temporal_address,
            namespace=self._namespace,
            log=self._log(SERVER),
            auth=self._auth,
        )
        # What is pushed last is ended first, so the runners go before the server although they start beside it.
        self._exit.push_async_exit(server)
        found = runners.installed()
        self._runners = [self._child(self._runner_spec(runner), guard) for runner in found]
        self._exit.push_async_callback(self._stop_runners)
        heavy = [child for child, runner in zip(self._runners, found, strict=True) if runner.is_heavy]
        self._light = [child for child in self._children() if child not in heavy]
        for child in self._light:
            child.start()
        await server.__aenter__()
        await server.serve(self._server_address)
        if self._with_http:
            self._http_url = await server.serve_http()
        self._server = server
        self._write()
        self._starting = asyncio.create_task(self._start_heavy(heavy), name="start what is heavy")

    async def _start_heavy(self, heavy: list[Child]) -> None:
        with suppress(UnavailableError):
            await asyncio.gather(*(child.ready() for child in self._light))
        for child in heavy:
            child.start()

    async def _stop_runners(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(*(runner.stop() for runner in self._runners))

    def _temporal_spec(self) -> ChildSpec:
        port = choose_port(temporal.PREFERRED_PORT)
        page_port = choose_port(temporal.PREFERRED_PAGE_PORT)
        self._temporal_address = address = f"{LOOPBACK}:{port}"
        self._temporal_page = f"http://{LOOPBACK}:{page_port}"

        async def is_ready(_: datetime) -> bool:
            return await temporal.is_ready(address)

        return ChildSpec(
            name=TEMPORAL,
            command=temporal.command(self._home, port=port, page_port=page_port),
            environment=self._environment.variables,
            is_ready=is_ready,
            address=address,
            # Its own farewell takes more than a second. By the time it is ended nobody talks to it any more, and what
            # it has acknowledged is committed in its database, which loses nothing with the process.
            stop_signal=signal.SIGKILL,
        )

    def _runner_spec(self, runner: runners.Runner) -> ChildSpec:
        return runners.spec(
            runner,
            self._environment.variables,
            temporal_address=self._temporal_address,
            namespace=self._namespace,
            server_address=self._server_address,
            key_file=self._home.runner_token if self._auth == "token" else None,
            home=self._home,
        )

    def _child(self, spec: ChildSpec, guard: Guard) -> Child:
        return Child(spec, group=guard.pid, log=self._log(spec.name), on_change=self._write)

    def _children(self) -> list[Child]:
        return [*([self._temporal] if self._temporal is not None else []), *self._runners]

    def _log(self, component: str) -> RotatingLog:
        return RotatingLog(self._home.logs / f"{component}.log")

    def _write(self) -> None:
        write_status(self._home.state, self.status)

    def _server_status(self) -> ComponentStatus:
        return ComponentStatus(
            name=SERVER,
            state=ComponentState.STARTING if self._server is None else ComponentState.RUNNING,
            pid=self._holder.pid,
            address=self._server_address,
            restarts=0,
            started_at=self._holder.started_at,
            detail=f"HTTP at {self._http_url}, described at /docs" if self._http_url else "",
        )

    def _temporal_status(self) -> ComponentStatus:
        if self._temporal is not None:
            return self._temporal.status
        return ComponentStatus(
            name=TEMPORAL,
            state=ComponentState.RUNNING if self._was_ready else ComponentState.STARTING,
            pid=0,
            address=self._temporal_address,
            restarts=0,
            started_at="",
            detail="not ours: STIGMER_TEMPORAL_ADDRESS",
        )

    async def _reach_external_temporal(self) -> None:
        try:
            async with asyncio.timeout(_EXTERNAL_TEMPORAL_SECONDS):
                await poll(lambda: temporal.is_ready(self._temporal_address))
        except TimeoutError:
            msg = f"no Temporal answers at {self._temporal_address}"
            raise UnavailableError(
                msg, hint="correct STIGMER_TEMPORAL_ADDRESS, or unset it to use one that stigmer starts"
            ) from None


def _taken(holder: Holder | None) -> ConflictError:
    if holder is None or not holder.pid:
        return ConflictError("another process has just taken the stack", hint="try again")
    return ConflictError(
        f"the stack runs already: `{holder.command}`, process {holder.pid}, since {holder.started_at}",
        hint="`stigmer status` shows it, `stigmer down` ends it",
    )
