"""Whether a gRPC server answers, asked the way load balancers ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

POLL_SECONDS = 0.05
_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING} as it travels; so small a message needs no generated code."""
_TIMEOUT_SECONDS = 2.0


async def poll(is_ready: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until the answer is yes; there is nothing to be told by."""
    while not await is_ready():  # noqa: ASYNC110 - the state asked about is that of another process
        await asyncio.sleep(POLL_SECONDS)


async def is_serving(address: str, *, service: str = "") -> bool:
    """Say whether the gRPC server at host:port reports itself, or one of its services, as serving. Never raises."""
    host, _, port = address.rpartition(":")
    try:
        # A bare connection first: gRPC would wait a second before it tries a refused one again.
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), _TIMEOUT_SECONDS)
    except (OSError, ValueError, TimeoutError):
        return False
    writer.close()
    name = service.encode()
    request = b"\x0a" + bytes([len(name)]) + name if name else b""
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as opened:
        channel: Any = opened
        try:
            answer: bytes = await channel.unary_unary(_HEALTH)(request, timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError:
            return False
    return answer == _SERVING
