"""Channels and stubs: calls by name, with messages of the pool, over any transport."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage

from stigmer_grpc._transport import ByteStream, Pairs, Route, Trailers, Transport
from stigmer_grpc.binding import Message, find_service
from stigmer_grpc.context import MetadataInput, clean_metadata
from stigmer_grpc.errors import (
    BindingError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    RpcError,
)
from stigmer_grpc.status import too_large

Request: TypeAlias = ProtobufMessage | Mapping[str, Any] | bytes
"""A message, its proto-JSON form as a mapping, or its bytes."""
Requests: TypeAlias = AsyncIterable[Request] | Iterable[Request]


class Channel:
    """A way to a server. Made by `connect` or `Server.channel`; an async context manager that closes itself."""

    def __init__(
        self,
        transport: Transport,
        *,
        pool: DescriptorPool,
        timeout: float | None,
        metadata: MetadataInput,
        max_message_bytes: int,
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._timeout = timeout
        self._metadata = clean_metadata(metadata)
        self._limit = max_message_bytes
        self._stubs: dict[str, Stub] = {}

    def service(self, name: str) -> Stub:
        """The stub of the service with full name `name`; the same one each time.

        Raises:
            BindingError: The pool has no such service.
        """
        stub = self._stubs.get(name)
        if stub is None:
            descriptor = find_service(self._pool, name)
            stub = Stub(descriptor, self._transport, self._timeout, self._metadata, self._limit)
            self._stubs[name] = stub
        return stub

    async def ready(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the wait is the point of it
        *,
        patience: float | None = None,
    ) -> None:
        """Return once the server accepts connections; try until then.

        Where an attempt has failed, as nobody listens there or its certificate is not trusted, the next ones have
        `patience` seconds; all the time if None. Attempts are about a second apart.

        Raises:
            UnavailableError: It did not within `timeout` seconds.
        """
        await self._transport.ready(timeout, patience)

    async def close(self) -> None:
        """Give up the open calls and close the connection; a second time is harmless."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Stub:
    """The methods of one service, by wire name.

    Of all of them: `timeout` is in seconds; None takes the channel's, `math.inf` means no deadline. `metadata` is
    added to the channel's. A mapping given as `trailers` receives the trailing metadata, in success and in failure.
    No call is tried twice.
    """

    def __init__(
        self, descriptor: Any, transport: Transport, timeout: float | None, metadata: Pairs, limit: int
    ) -> None:
        self._descriptor = descriptor
        self._transport = transport
        self._timeout = timeout
        self._metadata = metadata
        self._limit = limit
        self._codecs: dict[str, _Codec] = {}

    async def unary(
        self,
        method: str,
        request: Request,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline is part of the call
        metadata: MetadataInput = (),
        trailers: Trailers | None = None,
    ) -> Message:
        """Call a method with one request and one response.

        Raises:
            RpcError: The call failed; the class tells the code.
            BindingError: The service has no such method, or one of another shape.
        """
        codec = self._codecs.get(method) or self._codec(method)
        if codec.shape != (False, False):
            raise codec.wrong_shape("unary")
        raw = await self._transport.unary(
            codec.route, codec.encode(request), self._deadline(timeout), self._with(metadata), trailers
        )
        return codec.decode(raw)

    def stream(
        self,
        method: str,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: MetadataInput = (),
        trailers: Trailers | None = None,
    ) -> ResponseStream:
        """Call a method with one request and many responses. The channel's own timeout does not count here.

        Raises:
            RpcError: While iterating: the call failed.
            BindingError: The service has no such method, or one of another shape.
        """
        codec = self._codecs.get(method) or self._codec(method)
        if codec.shape != (False, True):
            raise codec.wrong_shape("stream")
        source = self._transport.stream(codec.route, codec.encode(request), _finite(timeout), self._with(metadata))
        return ResponseStream(source, codec.decode, trailers)

    async def client_stream(
        self,
        method: str,
        requests: Requests,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline is part of the call
        metadata: MetadataInput = (),
        trailers: Trailers | None = None,
    ) -> Message:
        """Call a method with many requests and one response. An exception of `requests` ends the call and is raised.

        Raises:
            RpcError: The call failed; the class tells the code.
            BindingError: The service has no such method, or one of another shape.
        """
        codec = self._codecs.get(method) or self._codec(method)
        if codec.shape != (True, False):
            raise codec.wrong_shape("client_stream")
        source = _RequestSource(requests, codec.encode)
        try:
            raw = await self._transport.unary(
                codec.route, source, self._deadline(timeout), self._with(metadata), trailers
            )
        except BaseException:
            source.reraise()
            raise
        finally:
            source.stop()
        return codec.decode(raw)

    def bidi(
        self,
        method: str,
        requests: Requests,
        *,
        timeout: float | None = None,
        metadata: MetadataInput = (),
        trailers: Trailers | None = None,
    ) -> ResponseStream:
        """Call a method with many requests and many responses. The channel's own timeout does not count here.

        Raises:
            RpcError: While iterating: the call failed.
            BindingError: The service has no such method, or one of another shape.
        """
        codec = self._codecs.get(method) or self._codec(method)
        if codec.shape != (True, True):
            raise codec.wrong_shape("bidi")
        source = _RequestSource(requests, codec.encode)
        stream = self._transport.stream(codec.route, source, _finite(timeout), self._with(metadata))
        return ResponseStream(stream, codec.decode, trailers, source)

    def _deadline(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else _finite(timeout)

    def _with(self, metadata: MetadataInput) -> Pairs:
        return (*self._metadata, *clean_metadata(metadata)) if metadata else self._metadata

    def _codec(self, method: str) -> _Codec:
        descriptor = self._descriptor.methods_by_name.get(method)
        if descriptor is None:
            raise BindingError(f"{self._descriptor.full_name} has no method {method!r}")
        codec = self._codecs[method] = _Codec(descriptor, self._limit)
        return codec


class ResponseStream:
    """The responses of a call in flight, as an async iterator.

    The call begins when the stream is made and ends with the iteration, with `cancel`, with leaving it as an async
    context manager, or when nobody holds it any more. Cancelling the task that waits for a response ends it too.
    """

    def __init__(
        self,
        source: ByteStream,
        decode: Callable[[bytes], Message],
        trailers: Trailers | None,
        requests: _RequestSource | None = None,
    ) -> None:
        self._source = source
        self._decode = decode
        self._trailers = trailers
        self._requests = requests
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._ended:
            raise StopAsyncIteration
        try:
            raw = await self._source.read()
        except BaseException as error:
            self._ended = True
            if self._requests is not None:
                self._requests.reraise()
            if self._trailers is not None and isinstance(error, StopAsyncIteration | RpcError):
                self._trailers.update(await self._source.trailers())
            raise
        return self._decode(raw)

    def cancel(self) -> None:
        """Give the call up; the next read says CANCELLED. Harmless when it is over."""
        self._source.cancel()

    async def aclose(self) -> None:
        """Like `cancel`, by the name that async iterators use."""
        self._source.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._source.cancel()


class InProcessChannel(Channel):
    """A channel to a server of the same process and event loop: same handlers, same interceptors, no socket."""


class _Codec:
    """Requests to bytes and bytes to responses, of one method."""

    def __init__(self, descriptor: Any, limit: int) -> None:
        self.shape: tuple[bool, bool] = (descriptor.client_streaming, descriptor.server_streaming)
        path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        self.route = Route(path=path, client_streaming=self.shape[0], server_streaming=self.shape[1])
        self._input: Any = message_factory.GetMessageClass(descriptor.input_type)
        self._output: Any = message_factory.GetMessageClass(descriptor.output_type)
        self._limit = limit

    def encode(self, request: Request) -> bytes:
        if isinstance(request, bytes):
            raw = request
        else:
            message: Any = request if isinstance(request, self._input) else self._convert(request)
            raw = message.SerializeToString()
        if len(raw) > self._limit:
            raise ResourceExhaustedError(too_large("the request", len(raw), self._limit))
        return raw

    def decode(self, raw: bytes) -> Message:
        try:
            return self._output.FromString(raw)
        except DecodeError as error:
            raise InternalError(f"the response of {self.route.path} cannot be read: {error}") from None

    def _convert(self, request: Any) -> Any:
        name = self._input.DESCRIPTOR.full_name
        if isinstance(request, Mapping):
            try:
                return json_format.ParseDict(cast("dict[str, Any]", request), self._input())
            except json_format.ParseError as error:
                raise InvalidArgumentError(f"the mapping is no {name}: {error}") from None
        if isinstance(request, ProtobufMessage) and request.DESCRIPTOR.full_name == name:
            return request
        raise TypeError(f"{self.route.path} takes {name}, a mapping or bytes, not {type(request).__name__}")

    def wrong_shape(self, asked: str) -> BindingError:
        right = (("unary", "stream"), ("client_stream", "bidi"))[self.shape[0]][self.shape[1]]
        return BindingError(f"{self.route.path} is called with {right}, not with {asked}")


class _RequestSource:
    """The requests of a client stream as bytes, keeping the exception that ended them, if one did."""

    def __init__(self, requests: Requests, encode: Callable[[Request], bytes]) -> None:
        self._iterator = _iterate(requests)
        self._encode = encode
        self._waiting: asyncio.Task[Any] | None = None
        self.error: BaseException | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._waiting = asyncio.current_task()
        try:
            return self._encode(await anext(self._iterator))
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        finally:
            self._waiting = None

    def stop(self) -> None:
        """Wait for no further request: the call is over. grpc.aio would wait for the next one for ever."""
        if self._waiting is not None:
            self._waiting.cancel()

    def reraise(self) -> None:
        """Raise what the requests raised: it is the reason for whatever became of the call."""
        if self.error is not None:
            raise self.error


async def _iterate(requests: Requests) -> AsyncIterator[Request]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


def _finite(timeout: float | None) -> float | None:
    if timeout is None or math.isinf(timeout):
        return None
    if timeout <= 0:
        # grpc.aio takes 0 for no deadline at all.
        raise DeadlineExceededError("the deadline had passed before the call")
    return timeout
