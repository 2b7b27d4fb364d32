"""What one connection may take: of memory before it is a request, of time, and of its peers' places.

uvicorn bounds what a request's body holds back. The rest is bounded here, because neither it nor its parser does: the
size of a request's head, the time until it is complete, the number of connections, and how long an answer may wait for
a reader. A connection that goes over is told why, where HTTP still allows it, and closed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Of a request line with its headers and trailers."""
HEAD_SECONDS = 10.0
"""From the first byte, or from the connection, to the end of the head."""
WRITE_SECONDS = 60.0
"""That an answer may wait until its reader takes some of it."""
CONNECTIONS = 1000
"""That may be open at once."""


def protocol_class(
    *,
    connections: int = CONNECTIONS,
    head_seconds: float = HEAD_SECONDS,
    write_seconds: float = WRITE_SECONDS,
    head_bytes: int = HEAD_BYTES,
) -> type[asyncio.Protocol]:
    """Return the protocol of a listener, with its limits; uvicorn makes one a connection."""

    class Limited(_Connection):
        limits = (connections, head_seconds, write_seconds, head_bytes)

    return Limited


class _Connection(HttpToolsProtocol):
    """One connection. The methods are those that asyncio and the parser call."""

    limits: tuple[int, float, float, int]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most, self._head_seconds, self._write_seconds, self._head_bytes = self.limits
        self._waiting_for_head: asyncio.TimerHandle | None = None
        self._waiting_for_reader: asyncio.TimerHandle | None = None
        self._head_size = 0
        """Bytes of request line, headers and trailers that the parser has told of."""
        self._untold = 0
        """Bytes that the parser took since it last told of anything."""
        self._in_head = False
        """Whether a request has begun whose head is not complete."""
        self._is_too_large = False
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type] - a transport of TCP or TLS
        if len(self.connections) > self._most:
            self._refuse("503 Service Unavailable", "too many connections", "retry-after: 1\r\n")
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._waiting_for_head, self._waiting_for_reader):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._untold += len(data)
        super().data_received(data)
        if self._untold > self._head_bytes:
            self._refuse_head()
        elif self._waiting_for_head is None and self._is_idle:
            self._expect_head()

    def on_message_begin(self) -> None:
        self._head_size = self._untold = 0
        self._in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._waiting_for_head is not None:
            self._waiting_for_head.cancel()
            self._waiting_for_head = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._untold = 0
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Note that a chunk has begun; its framing is of bounded size."""
        self._untold = 0

    def send_400_response(self, msg: str) -> None:
        if self._is_too_large:
            self._refuse_head()
        else:
            self._refuse("400 Bad Request", msg)

    def on_response_complete(self) -> None:
        unread = self.cycle.more_body
        super().on_response_complete()
        if unread:
            # What is left of the request would be read for ever, and nobody waits for it.
            self.transport.close()
        elif self._in_head and self._waiting_for_head is None:
            self._expect_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waiting_for_reader = self.loop.call_later(self._write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._waiting_for_reader is not None:
            self._waiting_for_reader.cancel()
            self._waiting_for_reader = None
        super().resume_writing()

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered. There is no cycle before the first one."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _count(self, size: int) -> None:
        self._head_size += size
        self._untold = 0
        if self._head_size > self._head_bytes:
            self._is_too_large = True
            # Ends the parser; it has us send what it takes for a 400.
            raise ValueError("the head is too large")

    def _expect_head(self) -> None:
        self._waiting_for_head = self.loop.call_later(self._head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._waiting_for_head = None
        if self._in_head:
            self._refuse("408 Request Timeout", f"the head did not come within {self._head_seconds:g} seconds")
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        self._refuse("431 Request Header Fields Too Large", f"a head takes at most {self._head_bytes} bytes")

    def _refuse(self, status: str, reason: str, headers: str = "") -> None:
        self._refused = True
        if self._is_idle:
            body = reason.encode()
            head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n{headers}"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
