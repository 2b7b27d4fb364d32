"""Channels without a socket: calls go straight to the dispatchers of a server on the same event loop.

What the wire does between caller and handler is done here: the handler runs in a task of its own, with the
server's context variables; it is cancelled when the caller gives up or the deadline passes, and the caller does
not wait for it then; a stream holds its handler back while nobody reads; errors arrive without their traceback.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from stigmer_grpc._dispatch import STOPPING, Calls, Dispatcher
from stigmer_grpc._transport import Pairs, Route, Trailers
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    RpcError,
    UnavailableError,
    UnimplementedError,
    error_for,
)

_WINDOW_BYTES = 64 * 1024
_WINDOW_MESSAGES = 16


class InProcessTransport:
    """Calls into a server of this process; `values` are in the context of each of them from the start."""

    def __init__(
        self, dispatchers: Mapping[str, Dispatcher], calls: Calls, values: Mapping[str, object] | None = None
    ) -> None:
        self._dispatchers = dispatchers
        self._calls = calls
        self._values = values
        self._open: set[_Call] = set()
        self._closed = False

    async def unary(
        self,
        route: Route,
        request: bytes | AsyncIterator[bytes],
        timeout: float | None,  # noqa: ASYNC109 - the deadline is part of the call
        metadata: Pairs,
        trailers: Trailers | None,
    ) -> bytes:
        """See Transport."""
        call = self._begin(route, request, timeout, metadata)
        try:
            return await call.read()
        finally:
            call.cancel()
            if trailers is not None:
                trailers.update(call.trailing)

    def stream(
        self, route: Route, request: bytes | AsyncIterator[bytes], timeout: float | None, metadata: Pairs
    ) -> InProcessStream:
        """See Transport."""
        return InProcessStream(self._begin(route, request, timeout, metadata))

    async def ready(
        self,
        timeout: float | None,  # noqa: ASYNC109 - the wait is the point of it
        patience: float | None,
    ) -> None:
        """See Transport."""
        if self._closed or self._calls.stopping.is_set():
            raise UnavailableError(STOPPING)

    async def close(self) -> None:
        """See Transport."""
        self._closed = True
        for call in tuple(self._open):
            call.cancel()

    def _begin(
        self, route: Route, request: bytes | AsyncIterator[bytes], timeout: float | None, metadata: Pairs
    ) -> _Call:
        call = _Call(metadata, timeout, self._open)
        dispatcher = self._dispatchers.get(route.path)
        if self._closed:
            call.end(UnavailableError("the channel is closed"))
        elif dispatcher is None:
            call.end(UnimplementedError(f"this server has no method {route.path}"))
        else:
            call.begin(dispatcher, request, self._calls, self._values)
        return call


class InProcessStream:
    """The responses of one call; gives the call up when nobody holds it any more, as grpc's do."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self.read = call.read
        self.cancel = call.cancel

    async def trailers(self) -> Trailers:
        """See ByteStream."""
        return self._call.trailing

    def __del__(self) -> None:
        self._call.abandon()


class _Call:
    """One call, both its ends: the dispatcher's `Call`, and what the caller reads from."""

    def __init__(self, metadata: Pairs, timeout: float | None, siblings: set[_Call]) -> None:
        self._loop = asyncio.get_running_loop()
        self._metadata = metadata
        self._deadline = None if timeout is None else self._loop.time() + timeout
        self._siblings = siblings
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._responses: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._ended = False
        self._error: RpcError | None = None
        self.trailing: Trailers = {}

    def invocation_metadata(self) -> Pairs:
        return self._metadata

    def peer(self) -> str:
        return "in-process"

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - self._loop.time(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        if self._ended:
            callback(self)
        else:
            self._callbacks.append(callback)

    async def write(self, raw: bytes) -> None:
        """Take a response for the caller, once there is room."""
        while self._is_full() and not self._ended:
            self._writer = self._loop.create_future()
            await self._writer
        if not self._ended:
            self._responses.append(raw)
            self._waiting_bytes += len(raw)
            _wake(self._reader)

    def begin(
        self,
        dispatcher: Dispatcher,
        request: bytes | AsyncIterator[bytes],
        calls: Calls,
        values: Mapping[str, object] | None,
    ) -> None:
        """Start the handler."""
        source = request if isinstance(request, bytes) else _Pulled(request, self)
        context = dispatcher.context(self)
        if values:
            context.values.update(values)
        serve = self._stream if dispatcher.method.server_streaming else self._unary
        work: Coroutine[Any, Any, None] = serve(dispatcher, source, context)
        self._task = self._loop.create_task(work, context=calls.variables.copy())
        self._siblings.add(self)
        if self._deadline is not None:
            self._timer = self._loop.call_at(self._deadline, self._expire)

    async def read(self) -> bytes:
        """See ByteStream."""
        while not self._responses:
            if self._ended:
                if self._error is None:
                    raise StopAsyncIteration
                raise self._error
            self._reader = self._loop.create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                self.cancel()
                raise
        raw = self._responses.popleft()
        self._waiting_bytes -= len(raw)
        _wake(self._writer)
        return raw

    def cancel(self) -> None:
        """See ByteStream."""
        self._give_up(CancelledError("the call was given up"))

    def abandon(self) -> None:
        """Cancel, unless the event loop is gone already."""
        if not self._ended and not self._loop.is_closed():
            self.cancel()

    def end(self, error: RpcError | None) -> None:
        """The call is over; the first end counts."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._siblings.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        _wake(self._reader)
        _wake(self._writer)
        for callback in self._callbacks:
            callback(self)

    def _expire(self) -> None:
        self._give_up(DeadlineExceededError("the deadline passed"))

    def _give_up(self, error: RpcError) -> None:
        if not self._ended:
            self._responses.clear()
            self.end(error)
            if self._task is not None:
                self._task.cancel()

    def _is_full(self) -> bool:
        return self._waiting_bytes >= _WINDOW_BYTES or len(self._responses) >= _WINDOW_MESSAGES

    async def _unary(self, dispatcher: Dispatcher, request: bytes | AsyncIterator[bytes], context: CallContext) -> None:
        try:
            response = await dispatcher.unary(request, context)
            if not self._ended:
                self._responses.append(response)
            self._finish(None, context)
        except RpcError as error:
            self._finish(error, context)
        finally:
            self.end(InternalError("the handler was interrupted"))

    async def _stream(
        self, dispatcher: Dispatcher, request: bytes | AsyncIterator[bytes], context: CallContext
    ) -> None:
        try:
            await dispatcher.stream(request, context, self.write)
            self._finish(None, context)
        except RpcError as error:
            self._finish(error, context)
        finally:
            self.end(InternalError("the handler was interrupted"))

    def _finish(self, error: RpcError | None, context: CallContext) -> None:
        if self._ended:
            return
        self.trailing = dict(context.trailing or {})
        # A new error: the caller's must not carry the handler's frames and causes, nor be an object both sides hold.
        fresh = error and error_for(error.code, error.message, error.details)
        if fresh is not None:
            fresh.metadata = self.trailing
        self.end(fresh)


class _Pulled:
    """The caller's requests; if they fail, the call is given up rather than blamed on the handler."""

    def __init__(self, requests: AsyncIterator[bytes], call: _Call) -> None:
        self._requests = requests
        self._call = call

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._requests)
        except StopAsyncIteration:
            raise
        except Exception:  # noqa: BLE001 - the caller gets it from its own iterator
            self._call.cancel()
            raise asyncio.CancelledError from None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
