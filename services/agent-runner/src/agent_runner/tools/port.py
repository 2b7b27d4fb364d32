"""How a connection to an MCP server is made, for `connection` to keep; the adapters are in `transports`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import httpx2
from stigmer_sandbox import OutboundPolicy

if TYPE_CHECKING:
    from stigmer_runner.mcp import Streams

Talk = Callable[["Streams"], Awaitable[None]]
"""Talks with a server for as long as the connection is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """How requests leave: through the guard.

    Attributes:
        client: Sends them.
        policy: Says where they may go.
    """

    client: httpx2.AsyncClient
    policy: OutboundPolicy


class ServerError(Exception):
    """An MCP server cannot be reached, or has gone; says which and why, without secrets of the connection."""


class Transport(Protocol):
    """Makes one connection."""

    async def serve(self, talk: Talk) -> str:
        """Connect, let `talk` have the connection until it returns, and disconnect; why it ended, for people.

        Nothing of the connection is left when this returns or raises, also when it is cancelled. `talk` may be
        cancelled when the server has gone.

        Raises:
            ServerError: The connection cannot be made.
            Exception: What `talk` raises.
        """
        ...

    @property
    def gone(self) -> bool:
        """Whether the server is known to have gone."""
        ...

    @property
    def forgotten(self) -> bool:
        """Whether the server knows the connection no more, and has refused the newest message for it."""
        ...

    @property
    def failure(self) -> ServerError | None:
        """Why the newest message did not arrive, or its answer did not, if the transport knows."""
        ...
