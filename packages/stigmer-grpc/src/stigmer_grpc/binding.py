"""Services: which handler answers which method of which service descriptor.

Works on any descriptor pool and knows neither transports nor interceptors. Everything a call needs that does
not depend on the call is worked out here, once.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool

from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import BindingError, UnimplementedError

Message: TypeAlias = Any
"""A protobuf message whose class is made from the pool at run time; its fields are known to no type checker."""

UnaryHandler: TypeAlias = Callable[[Message, CallContext], Awaitable[Message | bytes]]
"""Answers one request with one response; bytes are a response serialized already, sent as they are."""
StreamHandler: TypeAlias = Callable[[Message, CallContext], AsyncIterator[Message | bytes]]
"""Answers one request with many responses; usually an async generator."""
ClientStreamHandler: TypeAlias = Callable[[AsyncIterator[Message], CallContext], Awaitable[Message | bytes]]
"""Answers a stream of requests with one response."""
BidiHandler: TypeAlias = Callable[[AsyncIterator[Message], CallContext], AsyncIterator[Message | bytes]]
"""Answers a stream of requests with a stream of responses."""
Handler: TypeAlias = UnaryHandler | StreamHandler | ClientStreamHandler | BidiHandler


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Method:
    """One method of a service, with its handler."""

    path: str
    """The full name on the wire, "/package.Service/method"."""
    service: str
    name: str
    descriptor: Any
    request_type: Any
    """Class of its requests, from the pool."""
    response_type: Any
    client_streaming: bool
    server_streaming: bool
    handler: Callable[..., Any]
    implemented: bool
    """False: `handler` only says so."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service:
    """A service with a handler for every one of its methods."""

    name: str
    """Full name, "package.Service"."""
    descriptor: Any
    methods: Mapping[str, Method]
    """By wire name."""


def find_service(pool: DescriptorPool, name: str) -> Any:
    """The descriptor of service `name`.

    Raises:
        BindingError: The pool has no such service.
    """
    try:
        return pool.FindServiceByName(name)
    except KeyError:
        raise BindingError(f"the descriptor pool has no service {name!r}") from None


def bind(
    pool: DescriptorPool, service_full_name: str, handlers: Mapping[str, Handler], *, unimplemented: str = ""
) -> Service:
    """Tie `handlers` to the methods of a service.

    Args:
        pool: Where the service and its messages are described.
        service_full_name: Such as "acme.library.v1.BookQueries".
        handlers: By wire name of the method. Methods left out answer UNIMPLEMENTED.
        unimplemented: Why they do, for people; empty for just that.

    Raises:
        BindingError: The pool has no such service, the service no such method, or a handler has not the shape
            of its method (an async generator for one that does not stream, or the reverse).
    """
    descriptor = find_service(pool, service_full_name)
    unknown = sorted(set(handlers) - set(descriptor.methods_by_name))
    if unknown:
        raise BindingError(f"{service_full_name} has no method {', '.join(map(repr, unknown))}")
    methods = {
        method.name: _method(descriptor, method, handlers.get(method.name), unimplemented)
        for method in descriptor.methods
    }
    return Service(name=service_full_name, descriptor=descriptor, methods=methods)


def _method(service: Any, descriptor: Any, handler: Handler | None, unimplemented: str) -> Method:
    if handler is not None:
        _check_shape(f"{service.full_name}.{descriptor.name}", handler, streams=descriptor.server_streaming)
    return Method(
        path=f"/{service.full_name}/{descriptor.name}",
        service=service.full_name,
        name=descriptor.name,
        descriptor=descriptor,
        request_type=message_factory.GetMessageClass(descriptor.input_type),
        response_type=message_factory.GetMessageClass(descriptor.output_type),
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
        handler=handler or _unimplemented(descriptor, f"{service.name}.{descriptor.name}", unimplemented),
        implemented=handler is not None,
    )


def _check_shape(name: str, handler: Handler, *, streams: bool) -> None:
    if streams and inspect.iscoroutinefunction(handler):
        raise BindingError(f"{name} streams responses: its handler must be an async generator, not a coroutine")
    if not streams and inspect.isasyncgenfunction(handler):
        raise BindingError(f"{name} has one response: its handler must be a coroutine, not an async generator")


def _unimplemented(descriptor: Any, name: str, why: str) -> Callable[..., Any]:
    message = f"{name} is not implemented by this server" + (f": {why}" if why else "")

    async def unary(request: Message, context: CallContext) -> bytes:
        raise UnimplementedError(message)

    async def stream(request: Message, context: CallContext) -> AsyncIterator[bytes]:
        raise UnimplementedError(message)
        yield b""

    return stream if descriptor.server_streaming else unary
