"""Connections to gRPC servers: each to one address that the outbound guard found, kept for the next call."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import certifi
import grpc
from stigmer_sandbox import OutboundPolicy

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.peers import reachable

_MOST_KEPT = 64
_IDLE_SECONDS = 120.0
_OLD_SECONDS = 600.0
"""After so long a name is looked up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server is, as the workflow says."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(slots=True, kw_only=True)
class _Kept:
    channel: grpc.aio.Channel
    made_at: float
    used_at: float
    users: int = 0
    dropped: bool = field(default=False)


class Channels:
    """Channels by the place they lead to."""

    def __init__(self, policy: OutboundPolicy, *, authorities: Path | None = None) -> None:
        """Trust the usual certificate authorities, and those of the PEM file `authorities`."""
        self._policy = policy
        roots = Path(certifi.where()).read_bytes()
        more = b"" if authorities is None else b"\n" + authorities.read_bytes()
        self._credentials = grpc.ssl_channel_credentials(root_certificates=roots + more)
        self._kept: dict[Place, _Kept] = {}

    async def close(self) -> None:
        """Close every connection."""
        kept, self._kept = self._kept, {}
        await asyncio.gather(*(each.channel.close() for each in kept.values()))

    @contextlib.asynccontextmanager
    async def channel(self, place: Place) -> AsyncGenerator[grpc.aio.Channel]:
        """Give a channel to `place` for a block. One whose server turns out to be away is not kept.

        Raises:
            CallFailedError: The policy refuses the place, or nothing answers there.
        """
        kept = self._kept.get(place)
        if kept is None or time.monotonic() - kept.made_at > _OLD_SECONDS:
            if kept is not None:
                await self._drop(place, kept)
            kept = await self._opened(place)
        kept.users += 1
        try:
            yield kept.channel
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                await self._drop(place, kept)
            raise
        finally:
            kept.users -= 1
            kept.used_at = time.monotonic()
            if kept.dropped and not kept.users:
                await kept.channel.close()
            await self._sweep()

    async def _opened(self, place: Place) -> _Kept:
        address = await reachable(self._policy, place.host, place.port)
        # Another call may have been quicker.
        kept = self._kept.get(place)
        if kept is None:
            now = time.monotonic()
            kept = self._kept[place] = _Kept(channel=self._made(place, address), made_at=now, used_at=now)
        return kept

    def _made(self, place: Place, address: str) -> grpc.aio.Channel:
        target = f"ipv6:[{address}]:{place.port}" if ":" in address else f"ipv4:{address}:{place.port}"
        options = [
            ("grpc.default_authority", str(place)),
            # The environment's proxy would connect for us, to where the guard does not see.
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", self._policy.max_response_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if place.tls:
            options.append(("grpc.ssl_target_name_override", place.host))
            return grpc.aio.secure_channel(target, self._credentials, options)
        return grpc.aio.insecure_channel(target, options)

    async def _drop(self, place: Place, kept: _Kept) -> None:
        kept.dropped = True
        if self._kept.get(place) is kept:
            del self._kept[place]
        if not kept.users:
            await kept.channel.close()

    async def _sweep(self) -> None:
        """Close what is long unused, and the longest unused where there are too many."""
        now = time.monotonic()
        unused = sorted(
            ((each.used_at, place) for place, each in self._kept.items() if not each.users), key=lambda pair: pair[0]
        )
        spare = max(0, len(self._kept) - _MOST_KEPT)
        for index, (used_at, place) in enumerate(unused):
            if index < spare or now - used_at > _IDLE_SECONDS:
                await self._drop(place, self._kept[place])


def read_place(host: str, port: int | None, *, tls: bool | None) -> Place:
    """Return the place that a task names; `https://` or `http://` before the host says whether it speaks TLS.

    Without a word on it, port 443 speaks TLS and no other does; without a port, it is 443 or, where TLS is not
    wanted, 80.

    Raises:
        CallFailedError: The host is not written as hosts are.
    """
    scheme, mark, rest = host.partition("://")
    if mark:
        schemes = {"https": True, "grpcs": True, "http": False, "grpc": False}
        if scheme.lower() not in schemes:
            raise CallFailedError("configuration", f"the host's scheme {scheme!r} is neither https nor http")
        host = rest
        tls = schemes[scheme.lower()] if tls is None else tls
    if port is None:
        port = 80 if tls is False else 443
    return Place(host=host, port=port, tls=port == 443 if tls is None else tls)
