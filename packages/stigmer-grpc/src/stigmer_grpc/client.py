"""Channels over sockets: grpc.aio behind the transport that `Channel` expects."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool

from stigmer_grpc._transport import Pairs, Route, Trailers, Transport
from stigmer_grpc.channel import Channel
from stigmer_grpc.context import MetadataInput, join_metadata
from stigmer_grpc.errors import CancelledError, RpcError, UnavailableError
from stigmer_grpc.status import from_wire

if TYPE_CHECKING:
    from stigmer_grpc.tracing import Tracing

MAX_MESSAGE_BYTES = 10 * 1024 * 1024


def connect(
    address: str,
    *,
    pool: DescriptorPool,
    timeout: float | None = 30.0,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    metadata: MetadataInput = (),
    credentials: grpc.ChannelCredentials | None = None,
    tracing: Tracing | None = None,
) -> Channel:
    """A channel to the server at `address`, connecting when first used. Call it where the event loop runs.

    Args:
        address: "host:port" or "unix:/path".
        pool: Where the services and their messages are described.
        timeout: Seconds that a call with one response may take if it gives no deadline itself; None: for ever.
            Streams have only the deadline they are given.
        max_message_bytes: Limit of one message, both ways.
        metadata: Sent with every call.
        credentials: TLS and per-call credentials; None: plain text.
        tracing: Makes a span of every call, which the server's continue; None: there are no traces.

    Raises:
        ValueError: The metadata cannot be sent.
    """
    transport: Transport = WireTransport(address, max_message_bytes, credentials)
    if tracing is not None:
        transport = tracing.transport(transport)
    return Channel(transport, pool=pool, timeout=timeout, metadata=metadata, max_message_bytes=max_message_bytes)


class WireTransport:
    """Calls over a connection of grpc.aio."""

    def __init__(self, address: str, max_message_bytes: int, credentials: grpc.ChannelCredentials | None) -> None:
        options = (
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            # Error details and trailers of other servers may be larger than the 8 KiB taken by default.
            ("grpc.max_metadata_size", 64 * 1024),
            ("grpc.absolute_max_metadata_size", 128 * 1024),
            ("grpc.enable_retries", 0),
            # A server that is just starting is found within a second, not after minutes of back-off.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._address = address
        if credentials is None:
            self._channel: Any = grpc.aio.insecure_channel(address, options=options)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=options)
        self._calls: dict[str, Any] = {}

    async def unary(
        self,
        route: Route,
        request: bytes | AsyncIterator[bytes],
        timeout: float | None,  # noqa: ASYNC109 - the deadline is part of the call
        metadata: Pairs,
        trailers: Trailers | None,
    ) -> bytes:
        """See Transport."""
        begin = self._calls.get(route.path) or self._begin(route)
        call = begin(request, timeout=timeout, metadata=metadata)
        try:
            response = await call
        except grpc.aio.AioRpcError as failure:
            error = _error(failure)
            if trailers is not None:
                trailers.update(error.metadata)
            raise error from None
        if trailers is not None:
            trailers.update(join_metadata(await call.trailing_metadata()))
        return response

    def stream(
        self, route: Route, request: bytes | AsyncIterator[bytes], timeout: float | None, metadata: Pairs
    ) -> WireStream:
        """See Transport."""
        begin = self._calls.get(route.path) or self._begin(route)
        return WireStream(begin(request, timeout=timeout, metadata=metadata))

    async def ready(
        self,
        timeout: float | None,  # noqa: ASYNC109 - the wait is the point of it
        patience: float | None,
    ) -> None:
        """See Transport."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(timeout) as limit:
                while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and patience is not None:
                        limit.reschedule(min(loop.time() + patience, limit.when() or math.inf))
                        patience = None
                    await self._channel.wait_for_state_change(state)
        except TimeoutError:
            raise UnavailableError(f"no server answers at {self._address} after {loop.time() - began:.2g} s") from None

    async def close(self) -> None:
        """See Transport."""
        await self._channel.close()

    def _begin(self, route: Route) -> Any:
        kinds = (("unary_unary", "unary_stream"), ("stream_unary", "stream_stream"))
        make = getattr(self._channel, kinds[route.client_streaming][route.server_streaming])
        begin = self._calls[route.path] = make(route.path)
        return begin


class WireStream:
    """The responses of one call."""

    def __init__(self, call: Any) -> None:
        self._call = call
        # Iteration and not read(): that one looks at the status first and may leave responses unread.
        self._next = aiter(call).__anext__
        self._given_up = False
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        """See ByteStream."""
        if self._given_up:
            raise CancelledError("the call was given up")
        try:
            return await self._next()
        except grpc.aio.AioRpcError as failure:
            raise _error(failure) from None
        except asyncio.CancelledError:
            if self._given_up:
                raise CancelledError("the call was given up") from None
            raise

    def cancel(self) -> None:
        """See ByteStream."""
        if not self._call.done():
            self._given_up = True
            self._call.cancel()

    async def trailers(self) -> Trailers:
        """See ByteStream."""
        return join_metadata(await self._call.trailing_metadata())

    def __del__(self) -> None:
        # grpc.aio's own tasks hold the call, so it would go on with nobody to read it.
        if not self._loop.is_closed():
            self.cancel()


def _error(failure: grpc.aio.AioRpcError) -> RpcError:
    code: Any = failure.code().value
    metadata: Any = failure.trailing_metadata()
    return from_wire(code[0], failure.details() or "", tuple(metadata or ()))
