"""The server's side of grpc.aio: its handlers around our dispatchers, its options, its way to end a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, cast

import grpc
import grpc.aio

from stigmer_grpc._dispatch import Dispatcher
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import CancelledError, DeadlineExceededError, RpcError, StatusCode
from stigmer_grpc.status import to_wire

CODES: Mapping[StatusCode, grpc.StatusCode] = {
    StatusCode(cast("tuple[int, str]", code.value)[0]): code for code in grpc.StatusCode
}


_DOUBT = 0.005
"""Seconds after the end of a client stream in which news of a cancellation may still come; seen: 1 ms at worst."""

_LEFTOVER_BYTES = 128 * 2**20
_LEFTOVER_SECONDS = 5.0
"""How much of a refused client stream is read, so that its caller learns why."""

# grpc ships no types: its generic functions are looked up untyped.
_grpc: Any = grpc


class GenericHandler(grpc.GenericRpcHandler):
    """All methods of a server, found by path in one step."""

    def __init__(self, dispatchers: Mapping[str, Dispatcher], upload_idle_seconds: float | None = None) -> None:
        self._handlers = {
            path: _rpc_handler(dispatcher, upload_idle_seconds) for path, dispatcher in dispatchers.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        """What grpc asks on every call."""
        path: str = handler_call_details.method
        return self._handlers.get(path) or unknown_method(path)


MOST_STREAMS = 4096
"""Calls that may be under way on one connection. Further ones wait at their client, or are refused as unavailable."""


def server_options(max_message_bytes: int) -> tuple[tuple[str, int], ...]:
    """Channel arguments of a server."""
    return (
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A second server on the same port must fail to start, not take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", MOST_STREAMS),
        # Without pings a subscriber whose machine is gone is held open for ever.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 45_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        # The default breaks the connection of a client whose own pings come more often than every five minutes, as soon
        # as a stream of it is quiet for a while.
        ("grpc.http2.min_ping_interval_without_data_ms", 100),
    )


def _rpc_handler(dispatcher: Dispatcher, upload_idle_seconds: float | None) -> Any:
    method = dispatcher.method
    answers = _Answers(dispatcher, upload_idle_seconds)
    if method.client_streaming:
        if method.server_streaming:
            return _grpc.stream_stream_rpc_method_handler(answers.bidi)
        return _grpc.stream_unary_rpc_method_handler(answers.client_stream)
    if method.server_streaming:
        return _grpc.unary_stream_rpc_method_handler(answers.stream)
    return _grpc.unary_unary_rpc_method_handler(answers.unary)


class _RawRequests:
    """A client stream that ends only when its caller ended it.

    grpc.aio ends the iteration as well when the caller cancelled or went away, and says so a little later, so that
    half an upload would look like a whole one. Sending the headers settles it: by the time that is done, the
    cancellation has arrived. Where they are sent already, it is given a moment.

    Nor does it wait for ever: a caller that sends nothing for `idle` seconds, if that is given, has given up.
    """

    def __init__(self, requests: AsyncIterator[bytes], call: Any, idle: float | None = None) -> None:
        self._iterator: Any = aiter(requests)
        self._next = self._iterator.__anext__
        self._call = call
        self._idle = idle
        self.stalled = False
        """Whether the caller was given up for that."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        waiting = asyncio.timeout(self._idle)
        try:
            async with waiting:
                return await self._next()
        except StopAsyncIteration:
            await self._confirm_end()
            raise
        except TimeoutError:
            if not waiting.expired():
                raise
            self.stalled = True
            problem = f"no part of the request came for {self._idle:g} seconds; send it again from the beginning"
            raise DeadlineExceededError(problem) from None

    async def discard(self) -> None:
        """Read on for nothing, for a while.

        To a client of grpc.aio that is still writing when its refusal comes, the call is broken, and the reason lost.
        """
        left = _LEFTOVER_BYTES
        with suppress(StopAsyncIteration, TimeoutError):
            async with asyncio.timeout(_LEFTOVER_SECONDS):
                while left > 0:
                    left -= len(await self._next())

    async def aclose(self) -> None:
        """Let go of grpc's generator now; left to the garbage collector it may outlive the event loop."""
        # It refuses while something the handler left behind still reads from it.
        with suppress(RuntimeError):
            await self._iterator.aclose()

    async def _confirm_end(self) -> None:
        try:
            await self._call.send_initial_metadata(())
        except grpc.aio.UsageError:
            await asyncio.sleep(_DOUBT)
        except grpc.aio.BaseError as error:
            raise CancelledError("the caller is gone") from error


class _Answers:
    """A dispatcher as grpc's handlers call it: with bytes, or an iterator of bytes, and the servicer context."""

    def __init__(self, dispatcher: Dispatcher, upload_idle_seconds: float | None) -> None:
        self._context = dispatcher.context
        self._unary = dispatcher.unary
        self._stream = dispatcher.stream
        self._upload_idle_seconds = upload_idle_seconds

    async def unary(self, raw: bytes | AsyncIterator[bytes], call: Any) -> bytes:
        context = self._context(call)
        try:
            response = await self._unary(raw, context)
        except RpcError as error:
            if isinstance(raw, _RawRequests) and not raw.stalled and context.aborted is None:
                await raw.discard()
            return await _abort(error, context, call)
        if context.trailing is not None:
            call.set_trailing_metadata(tuple(context.trailing.items()))
        return response

    async def stream(self, raw: bytes | AsyncIterator[bytes], call: Any) -> None:
        context = self._context(call)
        try:
            await self._stream(raw, context, call.write)
        except RpcError as error:
            await _abort(error, context, call)
        if context.trailing is not None:
            call.set_trailing_metadata(tuple(context.trailing.items()))

    async def client_stream(self, raw: AsyncIterator[bytes], call: Any) -> bytes:
        async with aclosing(_RawRequests(raw, call, self._upload_idle_seconds)) as requests:
            return await self.unary(requests, call)

    async def bidi(self, raw: AsyncIterator[bytes], call: Any) -> None:
        async with aclosing(_RawRequests(raw, call)) as requests:
            await self.stream(requests, call)


async def _abort(error: RpcError, context: CallContext, call: Any) -> Any:
    message, details = to_wire(error)
    trailing = (*(context.trailing or {}).items(), *details)
    await call.abort(CODES[error.code], message, trailing)


def unknown_method(path: str) -> Any:
    """A handler for a method nobody bound."""

    async def answer(requests: Any, call: Any) -> None:
        await call.abort(grpc.StatusCode.UNIMPLEMENTED, f"this server has no method {path}")

    return _grpc.stream_stream_rpc_method_handler(answer)
