"""What an interceptor is: something that stands between the caller and the handler of every method.

Above it stand the transports, below it the next interceptor or the handler, both reached by `call_next`. The
first of the list is the outermost. An interceptor is made once and serves all calls at once: what belongs to
one call goes into `context.values`. One class may have both methods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol, runtime_checkable

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext


class CallNext(Protocol):
    """The rest of a call with one response."""

    def __call__(self, request: Any, context: CallContext, /) -> Awaitable[Message | bytes]:
        """Go on with `request`."""
        ...


class CallNextStream(Protocol):
    """The rest of a call with many responses."""

    def __call__(self, request: Any, context: CallContext, /) -> AsyncIterator[Message | bytes]:
        """Go on with `request`."""
        ...


@runtime_checkable
class UnaryInterceptor(Protocol):
    """Stands before every method that has one response."""

    def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Awaitable[Message | bytes]:
        """Answer the call, as a rule with what `await call_next(request, context)` gives; mostly a coroutine function.

        `request` is a message, or an async iterator of messages where the method streams its requests
        (`context.method_descriptor.client_streaming`). An RpcError raised here is the call's outcome.
        """
        ...


@runtime_checkable
class StreamInterceptor(Protocol):
    """Stands before every method that streams responses."""

    def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """Answer the call, as a rule with `call_next(request, context)` itself or an async generator around it.

        `request` is as for a UnaryInterceptor. The handler's iterator is closed when the call ends, whether or
        not this closes what it wraps.
        """
        ...
