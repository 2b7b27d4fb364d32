"""What a channel needs of what carries its calls: bytes there, bytes or an RpcError back.

Implemented by `client.WireTransport` over grpc.aio and by `in_process.InProcessTransport`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

Pairs = tuple[tuple[str, str | bytes], ...]
Trailers = dict[str, str | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which method, and its shape."""

    path: str
    client_streaming: bool
    server_streaming: bool


class ByteStream(Protocol):
    """The responses of one call in flight."""

    async def read(self) -> bytes:
        """The next response.

        Raises:
            StopAsyncIteration: The call ended well.
            RpcError: It did not.
        """
        ...

    def cancel(self) -> None:
        """Give the call up; harmless when it is over."""
        ...

    async def trailers(self) -> Trailers:
        """The trailing metadata, once the call is over."""
        ...


class Transport(Protocol):
    """Carries calls. A cancelled task gives up the call it waits for."""

    async def unary(
        self,
        route: Route,
        request: bytes | AsyncIterator[bytes],
        timeout: float | None,  # noqa: ASYNC109 - the deadline is part of the call
        metadata: Pairs,
        trailers: Trailers | None,
    ) -> bytes:
        """Make a call with one response; `trailers`, if given, gets the trailing metadata.

        Raises:
            RpcError: The call did not end well.
        """
        ...

    def stream(
        self, route: Route, request: bytes | AsyncIterator[bytes], timeout: float | None, metadata: Pairs
    ) -> ByteStream:
        """Begin a call with many responses."""
        ...

    async def ready(
        self,
        timeout: float | None,  # noqa: ASYNC109 - the wait is the point of it
        patience: float | None,
    ) -> None:
        """Return once calls can be made.

        Raises:
            UnavailableError: Not within `timeout` seconds, or `patience` seconds after an attempt failed.
        """
        ...

    async def close(self) -> None:
        """Give up every open call and let go of the connection."""
        ...
