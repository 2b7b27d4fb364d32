"""A web server for tests: real sockets, pages that are functions, and a memory of what it was sent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass
class Request:
    """One request that the site was sent."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class Response:
    """What the site answers."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Some", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


Answer = Callable[[Request], Response | Awaitable[Response]]


class Site:
    """A web server whose pages are functions."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self._pages: dict[str, Answer] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def page(self, path: str, answer: Answer | Response | Any = None) -> None:
        """Answer requests of `path` with what `answer` gives, or is."""
        fixed = answer if isinstance(answer, Response) else Response(answer)
        self._pages[path] = cast("Answer", answer) if callable(answer) else lambda _: fixed

    def seen(self, path: str) -> list[Request]:
        """Return the requests of `path`, in order."""
        return [request for request in self.requests if request.path == path]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection from now on."""
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """Drop every connection."""
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = await self._read(line.decode(), reader)
                self.requests.append(request)
                page = self._pages.get(request.path)
                response = Response({"error": "no such page"}, 404) if page is None else page(request)
                writer.write((response if isinstance(response, Response) else await response).encoded())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def _read(self, line: str, reader: asyncio.StreamReader) -> Request:
        method, target, _ = line.split(" ", 2)
        path, _, query = target.partition("?")
        headers: dict[str, str] = {}
        while text := (await reader.readline()).decode().strip():
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Request(method, path, query, headers, body)


@contextlib.asynccontextmanager
async def site_server() -> AsyncGenerator[Site]:
    """Serve until the block ends."""
    made = Site()
    listening = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listening.close()
        await made.close()
