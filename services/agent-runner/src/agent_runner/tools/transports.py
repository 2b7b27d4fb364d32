"""Connections to MCP servers: processes in the sandbox, containers by the engine's command line, and HTTP."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
from stigmer_runner.mcp import Bridge, HttpRefusedError, Listener, address, http_streams, process_streams
from stigmer_sandbox import (
    Command,
    CommandError,
    Ending,
    Finished,
    HostSandbox,
    Limits,
    OutboundError,
    Pipes,
    Sandbox,
    SandboxUnavailableError,
    Streamed,
    stream,
)

from agent_runner.tools.port import Outbound, ServerError, Talk
from agent_runner.tools.servers import Container, Process, Web

_EXCERPT = 500
_IN_FOLDER = 'cd -- "$1" || exit 1; shift; exec "$@"'
_FAILURES = (OutboundError, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ValueError)
_REMOVE_SECONDS = 20.0
_UNKNOWN = 404
_SESSION = "mcp-session-id"


class ProcessTransport:
    """A program in a sandbox, which ends with the connection."""

    def __init__(self, sandbox: Sandbox, command: Command, *, most: int) -> None:
        """Run `command`; one message of it may have `most` bytes."""
        self._sandbox = sandbox
        self._command = command
        self._listener = Listener(most=most)

    async def serve(self, talk: Talk) -> str:
        """See `Transport`."""

        async def listen(pipes: Pipes) -> None:
            async with process_streams(pipes, self._listener) as streams:
                await talk(streams)

        try:
            finished = await self._sandbox.run(self._command, listen)
        except (SandboxUnavailableError, CommandError) as error:
            raise ServerError(f"cannot be begun: {error}") from None
        return self._why(finished)

    @property
    def gone(self) -> bool:
        """See `Transport`."""
        return self._listener.ended

    @property
    def forgotten(self) -> bool:
        """See `Transport`."""
        return False

    @property
    def failure(self) -> ServerError | None:
        """See `Transport`."""
        broken = self._listener.broken
        return ServerError(f"does not speak the protocol: {broken}") if broken else None

    def _why(self, finished: Finished) -> str:
        errors = finished.stderr[-_EXCERPT:].decode("utf-8", "replace").strip()
        said = f"; it said: {errors}" if errors else ""
        noise = f"; it wrote what is no message: {self._listener.noise}" if self._listener.noise else ""
        match finished.ending:
            case Ending.MEMORY | Ending.PROCESSES:
                return f"was ended: too much {finished.ending.value}{said}"
            case Ending.EXITED:
                return f"ended with exit code {finished.code}{noise}{said}"
            case _:
                return f"was ended{noise}{said}"


def in_sandbox(
    process: Process, *, workspace: Path | None, readable: tuple[Path, ...], network: bool, limits: Limits
) -> Command:
    """The command of a server that is a program, with the session's workspace where that is on this machine."""
    inside = ("/bin/sh", "-c", _IN_FOLDER, "sh", process.folder) if process.folder else ()
    return Command(
        arguments=(*inside, process.command, *process.args),
        environment=process.env,
        workspace=workspace,
        readable=readable,
        network=network,
        # It lasts as long as the connection.
        limits=limits.lasting(float("inf")),
    )


class ContainerTransport:
    """A container, run by the command line of Docker or Podman, which ends with the connection."""

    def __init__(self, container: Container, program: str, *, most: int, limits: Limits) -> None:
        """Run with `program`, an absolute path; "" when there is none."""
        self._program = program
        self._name = container.name or f"stigmer-mcp-{uuid.uuid4().hex[:12]}"
        command = Command(
            arguments=(program, *run_arguments(container, self._name, limits)),
            # By the program's own environment: everybody on the machine can read the arguments of a process.
            environment=container.env,
            limits=replace(Limits(), seconds=float("inf")),
        )
        self._process = ProcessTransport(HostSandbox(), command, most=most)

    async def serve(self, talk: Talk) -> str:
        """See `Transport`."""
        if not self._program:
            raise ServerError(
                "needs Docker or Podman, and neither program is found here: install one, or name it "
                "(STIGMER_AGENT_CONTAINER_PROGRAM)"
            )
        try:
            return await self._process.serve(talk)
        finally:
            # The engine's program may be killed without its container.
            await HostSandbox().run(
                Command(
                    arguments=(self._program, "rm", "--force", self._name),
                    limits=replace(Limits(), seconds=_REMOVE_SECONDS),
                )
            )

    @property
    def gone(self) -> bool:
        """See `Transport`."""
        return self._process.gone

    @property
    def forgotten(self) -> bool:
        """See `Transport`."""
        return False

    @property
    def failure(self) -> ServerError | None:
        """See `Transport`."""
        return self._process.failure


def run_arguments(container: Container, name: str, limits: Limits) -> tuple[str, ...]:
    """The arguments of `docker run`, and of `podman run`."""
    options = ["run", "--interactive", "--rm", "--name", name, "--label", "ai.stigmer.managed=agent-runner"]
    options += ["--security-opt", "no-new-privileges", "--pids-limit", str(limits.processes)]
    options += ["--memory", str(limits.memory_bytes)]
    for variable in container.env:
        options += ["--env", variable]
    for volume in container.volumes:
        options += ["--volume", f"{volume.own}:{volume.inside}{':ro' if volume.read_only else ''}"]
    if container.network:
        options += ["--network", container.network]
    for port in container.ports:
        options += ["--publish", f"127.0.0.1:{port.own}:{port.inside}/{port.protocol}"]
    return (*options, "--", container.image, *container.args)


class HttpTransport:
    """A server behind HTTP."""

    def __init__(self, web: Web, outbound: Outbound, *, most: int) -> None:
        """Reach it through the guard; one message of it may have `most` bytes."""
        self._web = web
        self._outbound = outbound
        self._most = most
        self._bridge = Bridge(self._send, _FAILURES)
        self.forgotten = False
        """See `Transport`."""

    async def serve(self, talk: Talk) -> str:
        """See `Transport`."""
        async with http_streams(self._bridge, _with_query(self._web), self._web.headers, most=self._most) as streams:
            await talk(streams)
        return "ended the connection"

    @property
    def gone(self) -> bool:
        """See `Transport`: over HTTP, only a request tells."""
        return self.forgotten

    @property
    def failure(self) -> ServerError | None:
        """See `Transport`."""
        match self._bridge.failure:
            case None:
                return None
            case HttpRefusedError() as refused:
                return ServerError(str(refused))
            case error:
                return ServerError(f"{address(self._web.url)}: {error or type(error).__name__}")

    @asynccontextmanager
    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> AsyncGenerator[Streamed]:
        async with stream(
            self._outbound.client, self._outbound.policy, method=method, url=url, headers=headers, content=content
        ) as answer:
            # The protocol's word for a session that the server does not have.
            self.forgotten = self.forgotten or (answer.status == _UNKNOWN and _SESSION in headers)
            yield answer


def _with_query(web: Web) -> str:
    added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in web.query.items())
    if not added:
        return web.url
    parts = urlsplit(web.url)
    return parts._replace(query=f"{parts.query}&{added}" if parts.query else added).geturl()
