"""Servers for tests: real ones, over a real socket or in process, gone at the end of a block."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from google.protobuf.descriptor_pool import DescriptorPool

from stigmer_grpc.binding import Service
from stigmer_grpc.channel import Channel
from stigmer_grpc.client import connect
from stigmer_grpc.context import MetadataInput
from stigmer_grpc.interceptors import StreamInterceptor, UnaryInterceptor, default_interceptors
from stigmer_grpc.server import MAX_MESSAGE_BYTES, Server

Transport: TypeAlias = Literal["tcp", "unix", "in-process"]


@asynccontextmanager
async def serve(
    services: Iterable[Service],
    *,
    pool: DescriptorPool,
    transport: Transport = "tcp",
    interceptors: Sequence[UnaryInterceptor | StreamInterceptor] | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    timeout: float | None = 30.0,  # noqa: ASYNC109 - the channel's default deadline
    metadata: MetadataInput = (),
    grace: float = 0.0,
) -> AsyncGenerator[Channel]:
    """A connected channel to a server of `services`; both are closed at the end of the block.

    Args:
        services: See Server.
        pool: See Server.
        transport: "tcp": a free port of the loopback interface; "unix": a socket in a folder of its own; "in-process".
        interceptors: None: `default_interceptors()`.
        max_message_bytes: See Server; the client's limit too.
        timeout: See `connect`.
        metadata: See `connect`.
        grace: Seconds that calls still open at the end may take.
    """
    server = Server(
        services,
        pool=pool,
        interceptors=default_interceptors() if interceptors is None else interceptors,
        max_message_bytes=max_message_bytes,
    )
    async with channel_to(server, transport, timeout=timeout, metadata=metadata, grace=grace) as channel:
        yield channel


@asynccontextmanager
async def channel_to(
    server: Server,
    transport: Transport,
    *,
    timeout: float | None = 30.0,  # noqa: ASYNC109 - the channel's default deadline
    metadata: MetadataInput = (),
    grace: float = 0.0,
) -> AsyncGenerator[Channel]:
    """A connected channel to `server`, which is started for it and stopped at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="rpc-") as folder:
        try:
            if transport == "in-process":
                channel: Channel = server.channel(timeout=timeout, metadata=metadata)
            else:
                wanted = f"unix:{Path(folder) / 'socket'}" if transport == "unix" else "127.0.0.1:0"
                (address,) = await server.start(wanted)
                channel = connect(
                    address,
                    pool=server.pool,
                    timeout=timeout,
                    metadata=metadata,
                    max_message_bytes=server.max_message_bytes,
                )
            async with channel:
                await channel.ready(10)
                yield channel
        finally:
            await server.stop(grace)
