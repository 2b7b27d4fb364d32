"""Carrying what the MCP library sends over HTTP through the outbound guard.

The library speaks httpx2; what it sends goes out as every other request of the runner does. A request that cannot
be sent, or an answer that cannot be read, is noted here and looks to the library like a refusal.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx2
from mcp.client.streamable_http import streamable_http_client
from stigmer_sandbox import Streamed

from stigmer_runner.errors import RunnerError
from stigmer_runner.mcp.streams import Streams

_OWN = frozenset({"host", "content-length", "accept-encoding", "connection"})
"""Headers that the request which goes out has of itself."""
_UNDONE = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_EXCERPT = 500
_FAREWELL_SECONDS = 2.0

Send = Callable[[str, str, Mapping[str, str], bytes], AbstractAsyncContextManager[Streamed]]
"""Sends a request (method, URL, headers, body) through the guard and gives the answer while it comes."""


class HttpRefusedError(RunnerError):
    """A server answered with something else than a message of MCP."""

    def __init__(self, line: str, *, status: int, kind: str, text: str) -> None:
        """Say what `line`, which describes the request, was answered: `kind` is the type of `text`, an excerpt."""
        said = f": {text}" if text else ""
        answered = f"{line} answered {status}"
        super().__init__(
            f"{answered} with {kind or 'content of no type'}, which is no message of MCP{said}"
            if status < 400
            else f"{answered}{said}"
        )
        self.status = status


class Bridge(httpx2.AsyncBaseTransport):
    """Sends the library's requests; `failure` is why the newest message to the server did not arrive, or its answer."""

    def __init__(self, send: Send, failures: tuple[type[Exception], ...]) -> None:
        """Send with `send`, which raises `failures` when there is no answer, or reading it fails."""
        self._send = send
        self._failures = failures
        self.failure: Exception | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; a refusal stands for one that could not be sent."""
        stack = AsyncExitStack()
        try:
            # Saying goodbye must not take as long as the server likes.
            async with asyncio.timeout(_FAREWELL_SECONDS if request.method == "DELETE" else None):
                answer = await stack.enter_async_context(
                    self._send(
                        request.method,
                        str(request.url),
                        {name: value for name, value in request.headers.items() if name not in _OWN},
                        await request.aread(),
                    )
                )
        except (*self._failures, TimeoutError) as failure:
            self.note(request, failure)
            return httpx2.Response(503, request=request)
        kept = [(name, value) for name, value in answer.headers if name not in _UNDONE]
        if not _is_message(answer):
            async with stack:
                self.note(request, await _refusal(request, answer))
            return httpx2.Response(503, request=request)
        return httpx2.Response(answer.status, headers=kept, stream=_Body(answer, stack, self, request), request=request)

    def note(self, request: httpx2.Request, failure: Exception) -> None:
        """Keep a failure. What the server has to say of its own accord is not waited for, so only messages count."""
        if request.method == "POST" and isinstance(failure, (*self._failures, HttpRefusedError)):
            self.failure = failure

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What sending raises."""
        return self._failures


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: Streamed, stack: AsyncExitStack, bridge: Bridge, request: httpx2.Request) -> None:
        self._answer = answer
        self._stack = stack
        self._bridge = bridge
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._answer.body:
                yield part
        except Exception as error:  # noqa: BLE001 - whatever it is, closing the exchange says it in our words
            await self._close(error)

    async def aclose(self) -> None:
        await self._close(None)

    async def _close(self, error: Exception | None) -> None:
        try:
            await self._stack.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except self._bridge.failures as failure:
            self._bridge.note(self._request, failure)


def _is_message(answer: Streamed) -> bool:
    """Whether an answer is one that the library understands; others are told of in their own words."""
    kind = dict(answer.headers).get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or answer.status in range(300, 400):
        return True
    return answer.status < 300 and kind in ("text/event-stream", "")


async def _refusal(request: httpx2.Request, answer: Streamed) -> HttpRefusedError:
    said = bytearray()
    async for part in answer.body:
        said += part
        if len(said) >= _EXCERPT:
            break
    text = said[:_EXCERPT].decode("utf-8", "replace").strip()
    kind = dict(answer.headers).get("content-type", "")
    line = f"{request.method} {address(str(request.url))}"
    return HttpRefusedError(line, status=answer.status, kind=kind, text=text)


def address(url: str) -> str:
    """Return an address for a message: its query and its user may hold what is nobody's business."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@asynccontextmanager
async def http_streams(bridge: Bridge, url: str, headers: Mapping[str, str], *, most: int) -> AsyncGenerator[Streams]:
    """Connect to the MCP server at `url`; one event from it may have `most` bytes."""
    async with (
        httpx2.AsyncClient(transport=bridge, headers=dict(headers), timeout=None, trust_env=False) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=most) as streams,
    ):
        yield streams
