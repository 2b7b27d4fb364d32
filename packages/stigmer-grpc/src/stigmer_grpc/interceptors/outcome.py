"""What happens to every call whatever it is about: it is counted, its errors are mapped, and its end is logged.

One interceptor and not one for each, because each that stands before a call costs it microseconds, and these four
look at the same moments of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from time import perf_counter
from typing import Any, TypeAlias

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import REQUEST_ID, RpcError, StatusCode
from stigmer_grpc.interceptors.call_log import Logging, code_of
from stigmer_grpc.interceptors.call_metrics import CallMetrics, MethodMetrics
from stigmer_grpc.interceptors.port import CallNext, CallNextStream

ErrorTable: TypeAlias = Mapping[type[Exception], Callable[[Any], RpcError]]
"""Exception type to what makes the RpcError of one; an entry stands for subclasses too, the nearest counts."""


class Outcome:
    """Counts calls, turns what handlers raise into RpcErrors, and logs how each call ended, with its request id.

    The request id is the caller's x-request-id or one made here. It is among the trailers of what fails and of
    streams. A call with one response that succeeds returns none: trailers there cost a sixth of the whole call, and
    who wants to find such a call in the log sends an id.

    Args:
        table: The errors of a program, and what they are to its callers; what is not in it becomes INTERNAL, logged.
        metrics: Where calls are counted.
        log: How calls are logged.
    """

    def __init__(
        self, table: ErrorTable | None = None, *, metrics: CallMetrics | None = None, log: Logging | None = None
    ) -> None:
        self._table = dict(table or {})
        self._count = (metrics or CallMetrics()).of
        self._log = log or Logging()

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        counted = self._count(context.method)
        counted.in_flight += 1
        started = perf_counter()
        try:
            response = await call_next(request, context)
        except BaseException as error:
            told = self._failed(error, context, counted, started)
            if told is error:
                raise
            raise told from error
        took = perf_counter() - started
        counted.in_flight -= 1
        counted.ended(StatusCode.OK, took)
        self._log.ended(context, took)
        return response

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        _announce(context)
        counted = self._count(context.method, streams=True)
        counted.in_flight += 1
        started, sent = perf_counter(), 0
        try:
            responses: Any = call_next(request, context)
            async with aclosing(responses):
                async for response in responses:
                    sent += 1
                    counted.sent += 1
                    yield response
        except BaseException as error:
            told = self._failed(error, context, counted, started, sent)
            if told is error:
                raise
            raise told from error
        took = perf_counter() - started
        counted.in_flight -= 1
        counted.ended(StatusCode.OK, took)
        self._log.ended(context, took, sent)

    def _failed(
        self,
        error: BaseException,
        context: CallContext,
        counted: MethodMetrics,
        started: float,
        sent: int | None = None,
    ) -> BaseException:
        """Count and log a call that the error ends, and return what to raise: the same, or what it is to callers."""
        took = perf_counter() - started
        told = self._mapped(error)
        counted.in_flight -= 1
        counted.ended(code_of(told, context), took)
        _announce(context)
        self._log.failed(context, took, told, sent)
        return told

    def _mapped(self, error: BaseException) -> BaseException:
        if isinstance(error, RpcError) or not isinstance(error, Exception):
            return error
        for kind in type(error).__mro__:
            if (make := self._table.get(kind)) is not None:
                return make(error)
        return error


def _announce(context: CallContext) -> None:
    context.set_trailing_metadata({REQUEST_ID: context.request_id})
