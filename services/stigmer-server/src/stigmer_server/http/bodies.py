"""The bodies of requests: read within limits of size and time, and only in the types that were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from stigmer_grpc import StatusCode

from stigmer_server.http.problems import HttpError

JSON = "application/json"

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_SPILL_BYTES = 256 * 1024
_SPILL_SECONDS = 1.0


class GoneError(Exception):
    """The caller closed the connection; there is nobody to answer."""


class Body:
    """The body of one request, to be read once.

    Args:
        receive: What ASGI calls so.
        headers: Of the request.
        limit: The most bytes that are taken.
        seconds: How long a piece may take to come, and how long the whole when it is read into memory.
    """

    def __init__(self, receive: Receive, headers: Headers, *, limit: int, seconds: float) -> None:
        self._receive = receive
        self._headers = headers
        self.limit = limit
        """The most bytes that are taken."""
        self._seconds = seconds
        self._taken = 0
        self.complete = False
        """Whether all of it was read."""

    @property
    def media_type(self) -> str:
        """The type that the body is said to have, without parameters, in lower case."""
        return self._headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_absent(self) -> bool:
        """Whether the request has none, not even an empty one in pieces."""
        return self._headers.get("content-length", "0") == "0" and "transfer-encoding" not in self._headers

    def check_encoding(self) -> None:
        """Refuse a compressed body, whose size nobody knows. Raises: HttpError."""
        encoding = self._headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            message = f"bodies are taken as they are, not in the encoding {encoding[:50]!r}"
            raise HttpError(415, StatusCode.INVALID_ARGUMENT, message, headers={"accept-encoding": "identity"})

    async def read(self) -> bytes:
        """Return all of it.

        Raises:
            HttpError: It is too large or too slow.
            GoneError: The caller is gone.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return b"".join([piece async for piece in self.pieces()])
        except TimeoutError:
            raise _too_slow(self._seconds) from None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield it as it comes. Raises: like `read`."""
        self.check_encoding()
        length = self._headers.get("content-length", "")
        if length.isdigit() and int(length) > self.limit:
            raise self._too_large()
        while not self.complete:
            piece = await self._next()
            if piece:
                yield piece

    async def spill(self) -> None:
        """Take a little of what is still to come and drop it, so that who is still sending hears the answer."""
        spilled = 0
        try:
            async with asyncio.timeout(_SPILL_SECONDS):
                while not self.complete and spilled < _SPILL_BYTES:
                    message = await self._receive()
                    spilled += len(message.get("body", b"")) + 1
                    self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            return

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow(self._seconds) from None
        if message["type"] == "http.disconnect":
            raise GoneError
        self.complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self._taken += len(piece)
        if self._taken > self.limit:
            raise self._too_large()
        return piece

    def _too_large(self) -> HttpError:
        message = f"the body is larger than the limit of {self.limit} bytes"
        return HttpError(413, StatusCode.RESOURCE_EXHAUSTED, message)


def check_json(body: Body) -> None:
    """Refuse a body that is not said to be JSON, which pages elsewhere cannot send unasked. Raises: HttpError."""
    media_type = body.media_type
    if media_type != JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
        message = f"expected a body of type {JSON}, got {media_type[:100] or 'none'!r}"
        raise HttpError(415, StatusCode.INVALID_ARGUMENT, message, headers={"accept": JSON})


def _too_slow(seconds: float) -> HttpError:
    return HttpError(408, StatusCode.DEADLINE_EXCEEDED, f"the body did not come within {seconds:g} seconds")
