"""From request bytes to response bytes: decoding, interceptors, the handler, encoding, and every way to fail.

Both transports end here, so a call behaves the same over a socket and in process. Bytes are the border on
purpose: the size limit needs the serialized size anyway, and parsing it again costs no more than a deep copy,
so nothing is gained by a second path that hands messages over.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NoReturn

from google.protobuf.message import DecodeError
from loguru import logger

from stigmer_grpc.binding import Message, Method, Service
from stigmer_grpc.context import Call, CallContext
from stigmer_grpc.errors import (
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    RpcError,
    UnavailableError,
)
from stigmer_grpc.interceptors.port import StreamInterceptor, UnaryInterceptor
from stigmer_grpc.request_ids import current
from stigmer_grpc.status import too_large

Write = Callable[[bytes], Awaitable[None]]
STOPPING = "the server is stopping"


class Calls:
    """The calls a server has open."""

    def __init__(self) -> None:
        self.open: set[CallContext] = set()
        self.stopping = asyncio.Event()
        self.arrived = 0
        # Handlers called in process start from here and not from their caller's context, as over a socket.
        self.variables = contextvars.copy_context()

    async def drain(self, grace: float) -> None:
        """Wait until no call is open, at most `grace` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        while self.open and (left := end - loop.time()) > 0:
            await asyncio.wait(self._tasks(), timeout=left)

    async def turn_away(self, wait: float) -> None:
        """Cancel what is still open, to end with UNAVAILABLE, and wait for it at most `wait` seconds."""
        for context in self.open:
            context.abort(UnavailableError(STOPPING))
            if context.writing and context.task is not None:
                context.task.cancel()
        await self.drain(wait)
        for context in self.open:
            logger.bind(request_id=context.request_id).warning(
                "{} of request {} goes on although it was cancelled", context.method, context.request_id
            )

    async def lull(self, quiet: float, limit: float) -> None:
        """Wait until no call has come in for `quiet` seconds, at most `limit` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        before = -1
        while before != self.arrived and loop.time() < end:
            before = self.arrived
            await asyncio.sleep(quiet)

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [context.task for context in self.open if context.task is not None]


class Requests:
    """The decoded requests of a client stream."""

    def __init__(self, dispatcher: Dispatcher, raw: AsyncIterator[bytes]) -> None:
        self._decode = dispatcher.decode
        self._next = raw.__aiter__().__anext__

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return self._decode(await self._next())


class Dispatcher:
    """One method behind its interceptors."""

    def __init__(self, method: Method, interceptors: Iterable[object], calls: Calls, limit: int) -> None:
        self.method = method
        self._calls = calls
        self._limit = limit
        self._parse = method.request_type.FromString
        self._response_type = method.response_type
        compose = _compose_stream if method.server_streaming else _compose_unary
        self._chain = compose(method.handler, tuple(interceptors))

    def context(self, call: Call) -> CallContext:
        """The context of a new call."""
        return CallContext(self.method, call, self._calls.stopping)

    async def unary(self, raw: bytes | AsyncIterator[bytes], context: CallContext) -> bytes:
        """Answer a call that has one response.

        Raises:
            RpcError: Whatever else went wrong became one.
            asyncio.CancelledError: The caller is gone.
        """
        self._enter(context)
        try:
            request = self.decode(raw) if isinstance(raw, bytes) else Requests(self, raw)
            return self.encode(await self._chain(request, context))
        except RpcError:
            raise
        except BaseException as error:  # noqa: BLE001 - not even SystemExit or a Rust panic in a handler may end the process
            self._fail(error, context)
        finally:
            self._leave(context)

    async def stream(self, raw: bytes | AsyncIterator[bytes], context: CallContext, write: Write) -> None:
        """Answer a call that has many responses; `write` holds back while the caller does not read.

        Raises:
            RpcError: Whatever else went wrong became one.
            asyncio.CancelledError: The caller is gone.
        """
        self._enter(context)
        responses: Any = None
        try:
            request = self.decode(raw) if isinstance(raw, bytes) else Requests(self, raw)
            responses = self._chain(request, context)
            async for response in responses:
                raw_response = self.encode(response)
                context.writing = True
                await write(raw_response)
                context.writing = False
                if context.aborted is not None:
                    raise context.aborted
        except RpcError:
            raise
        except BaseException as error:  # noqa: BLE001 - not even SystemExit or a Rust panic in a handler may end the process
            self._fail(error, context)
        finally:
            try:
                await _close(responses, context)
            finally:
                self._leave(context)

    def decode(self, raw: bytes) -> Message:
        """The request in `raw`."""
        if len(raw) > self._limit:
            raise ResourceExhaustedError(too_large("a request", len(raw), self._limit))
        try:
            return self._parse(raw)
        except DecodeError:
            name = self.method.descriptor.input_type.full_name
            raise InvalidArgumentError(f"the request is not a valid {name} message") from None

    def encode(self, response: Message | bytes) -> bytes:
        """`response` as bytes."""
        if isinstance(response, bytes):
            raw = response
        elif type(response) is self._response_type:
            raw = response.SerializeToString()
        else:
            raw = self._encode_foreign(response)
        if len(raw) > self._limit:
            raise ResourceExhaustedError(too_large("the response", len(raw), self._limit))
        return raw

    def _encode_foreign(self, response: Any) -> bytes:
        """The same message from another pool will do; anything else is the handler's mistake."""
        wanted = self.method.descriptor.output_type.full_name
        descriptor = getattr(response, "DESCRIPTOR", None)
        if descriptor is None or descriptor.full_name != wanted:
            raise TypeError(f"the handler of {self.method.path} answered {type(response).__name__}, not {wanted}")
        return response.SerializeToString()

    def _enter(self, context: CallContext) -> None:
        self._calls.arrived += 1
        if self._calls.stopping.is_set():
            raise UnavailableError(STOPPING)
        context.task = asyncio.current_task()
        current.set(context)
        self._calls.open.add(context)

    def _leave(self, context: CallContext) -> None:
        self._calls.open.discard(context)
        # The task may go on after the call, with other work that an abort must not hit.
        context.task = None

    def _fail(self, error: BaseException, context: CallContext) -> NoReturn:
        """End the call for an `error` that is no RpcError."""
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise error
        if isinstance(error, asyncio.CancelledError):
            if context.aborted is not None:
                raise context.aborted from None
            # A cancellation nobody asked this task for comes out of something the handler awaited: a fault like any.
            if context.task is not None and context.task.cancelling():
                raise error
        if context.aborted is not None:
            raise context.aborted from error
        log = logger.bind(request_id=context.request_id)
        log.opt(exception=error).error("{} failed, request {}", context.method, context.request_id)
        raise InternalError(f"internal error, request id {context.request_id}") from error


async def _close(responses: Any, context: CallContext) -> None:
    """Run the handler to its end now, and not when the garbage is collected."""
    for iterator in (responses, context.iterator):
        close = getattr(iterator, "aclose", None)
        if close is None:
            continue
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - the call has its outcome; this one has nobody else to go to
            log = logger.bind(request_id=context.request_id)
            log.opt(exception=error).error("{} failed closing, request {}", context.method, context.request_id)


def _compose_unary(handler: Callable[..., Any], interceptors: tuple[object, ...]) -> Callable[..., Any]:
    for interceptor in reversed(interceptors):
        if isinstance(interceptor, UnaryInterceptor):
            handler = partial(interceptor.intercept_unary, handler)
    return handler


def _compose_stream(handler: Callable[..., Any], interceptors: tuple[object, ...]) -> Callable[..., Any]:
    chain: Callable[..., Any] = partial(_open, handler)
    for interceptor in reversed(interceptors):
        if isinstance(interceptor, StreamInterceptor):
            chain = partial(interceptor.intercept_stream, chain)
    return chain


def _open(handler: Callable[..., Any], request: Any, context: CallContext) -> Any:
    context.iterator = iterator = handler(request, context)
    return iterator


def dispatchers(
    services: Iterable[Service], interceptors: Iterable[object], calls: Calls, limit: int
) -> dict[str, Dispatcher]:
    """A dispatcher for every method, by path."""
    chain = tuple(interceptors)
    return {
        method.path: Dispatcher(method, chain, calls, limit)
        for service in services
        for method in service.methods.values()
    }
