"""What a server says of itself and of what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stigmer_cli.connection import dial
from stigmer_cli.environment import Environment

_SERVICE = "ai.stigmer.operations.v1.ServerController"
_STATES = {0: "unknown", 1: "ready", 2: "away", 3: "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that a server needs."""

    name: str
    state: str
    """`ready`, `away` or `off`."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """A server at one moment."""

    address: str
    version: str
    started_at: str
    """RFC 3339; empty when it does not say."""
    ready: bool
    needs: tuple[Need, ...]

    @property
    def away(self) -> tuple[Need, ...]:
        """What it needs and cannot reach."""
        return tuple(need for need in self.needs if need.state == "away")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "address": self.address,
            "version": self.version,
            "started_at": self.started_at or None,
            "ready": self.ready,
            "components": [{"name": need.name, "state": need.state, "detail": need.detail} for need in self.needs],
        }


async def server_state(address: str, environment: Environment) -> ServerState | str:
    """Ask the server at an address how it is; return why it does not tell when it answers but does not tell.

    Raises:
        UnavailableError: No server answers there.
    """
    from stigmer_grpc.errors import RpcError

    async with dial(address, environment) as channel:
        try:
            answer: Any = await channel.service(_SERVICE).unary("getStatus", {}, timeout=10.0)
        except RpcError as error:
            return error.message or error.code.name
    return ServerState(
        address=address,
        version=answer.version,
        started_at=answer.started_at.ToJsonString() if answer.HasField("started_at") else "",
        ready=answer.ready,
        needs=tuple(
            Need(name=item.name, state=_STATES.get(item.state, "unknown"), detail=item.detail)
            for item in answer.components
        ),
    )
