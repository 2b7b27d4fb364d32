"""Whole exchanges with MCP servers, and what is told of those that come to nothing."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from stigmer_runner.mcp import Bridge, HttpRefusedError, Listener, Streams, http_streams, process_streams
from stigmer_sandbox import Command, Ending, Finished, Pipes, Streamed

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.confinement import Confinement
from workflow_runner.activities.mcp_session import ConnectionEndedError, converse
from workflow_runner.activities.requests import Requests, described, expand
from workflow_runner.call_messages import McpArguments, McpServer

_EXCERPT = 500
_STANDARD = {401: "authentication", 403: "authorization"}


async def ask_server(
    requests: Requests, server: McpServer, auth: httpx2.Auth | None, mcp: McpArguments, *, seconds: float, most: int
) -> Any:
    """Make a request to a server behind HTTP and return its result.

    Raises:
        CallFailedError: There is none.
    """
    line = described("POST", expand(server))

    def send(
        method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> AbstractAsyncContextManager[Streamed]:
        return requests.stream(method, url, headers=headers, content=content, auth=auth)

    bridge = Bridge(send, (CallFailedError,))
    told = _Told()
    try:
        async with (
            asyncio.timeout(seconds),
            http_streams(bridge, expand(server), server["headers"], most=most) as streams,
        ):
            await told.by(streams, mcp)
    except TimeoutError:
        # What was told counts, even if the server does not let us go.
        if not told.results and told.failure is None:
            told.failure = CallFailedError("timeout", f"the MCP server gave no answer within {seconds:g} s")
    if told.results:
        return told.results[0]
    failure = told.failure or CallFailedError("communication", "the MCP server ended the connection")
    raise _of_bridge(bridge) or failure.about(line)


def _of_bridge(bridge: Bridge) -> Exception | None:
    match bridge.failure:
        case HttpRefusedError() as refused if refused.status >= 400:
            name = _STANDARD.get(refused.status, "communication")
            return CallFailedError(name, str(refused), status=refused.status)
        case HttpRefusedError() as refused:
            return CallFailedError("communication", str(refused))
        case failure:
            return failure


async def ask_process(confinement: Confinement, command: Command, mcp: McpArguments, seconds: float) -> Any:
    """Start a process, make a request to it, end it, and return the result.

    Raises:
        CallFailedError: There is none.
    """
    listener = Listener(most=command.limits.output_bytes)
    told = _Told()

    async def talk(pipes: Pipes) -> None:
        async with process_streams(pipes, listener) as streams:
            await told.by(streams, mcp)

    finished = await confinement.run(command, "the MCP server", talk)
    if told.results:
        return told.results[0]
    raise _failure(told.failure, finished, listener, seconds)


@dataclass(slots=True)
class _Told:
    """What a server told; kept, because an exception would come out of a connection as one of a group."""

    results: list[Any] = field(default_factory=list[Any])
    failure: CallFailedError | None = None
    """None too where the server ended before it had answered."""

    async def by(self, streams: Streams, mcp: McpArguments) -> None:
        try:
            self.results.append(await converse(streams, mcp))
        except CallFailedError as failure:
            self.failure = failure
        except ConnectionEndedError:
            pass


def _failure(
    failure: CallFailedError | None, finished: Finished, listener: Listener, seconds: float
) -> CallFailedError:
    """Return why a process gave no result."""
    errors = finished.stderr[-_EXCERPT:].decode("utf-8", "replace").strip()
    said = f"; it said: {errors}" if errors else ""
    noise = f"; it wrote what is no message: {listener.noise}" if listener.noise else ""
    if listener.broken:
        return CallFailedError("communication", f"the MCP server does not speak the protocol: {listener.broken}{said}")
    if finished.ending in (Ending.MEMORY, Ending.PROCESSES):
        return CallFailedError("runtime", f"the MCP server was ended: too much {finished.ending.value}{said}")
    if finished.ending is Ending.TIME:
        return CallFailedError("timeout", f"the MCP server gave no answer within {seconds:g} s{noise}{said}")
    if failure is not None:
        return failure
    ended = f"ended with exit code {finished.code}" if finished.ending is Ending.EXITED else "closed its output"
    return CallFailedError("communication", f"the MCP server {ended} before it answered{noise}{said}")
