"""How many calls there are, how long they take and how they end, in numbers that are ready whenever they are asked for.

Kept as plain integers per method, so that a call pays two microseconds for it; whoever shows them, as metrics of
some monitoring system, reads `CallMetrics.methods` when that system asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import perf_counter
from typing import Any

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import StatusCode
from stigmer_grpc.interceptors.call_log import code_of
from stigmer_grpc.interceptors.port import CallNext, CallNextStream

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, of the ranges in which durations are counted; a last range has no bound."""


class CodeMetrics:
    """The calls of one method that ended with one code."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """How many took how long: one number for each range of BOUNDS, and one for those beyond."""
        self.seconds = 0.0
        """How long they took together."""


class MethodMetrics:
    """The calls of one method."""

    __slots__ = ("codes", "in_flight", "sent", "streams")

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams
        """Whether the method has many responses; a call then takes as long as its caller listens."""
        self.in_flight = 0
        self.sent = 0
        """Responses of streams."""
        self.codes: dict[StatusCode, CodeMetrics] = {}

    def ended(self, code: StatusCode, seconds: float) -> None:
        """Count a call."""
        found = self.codes.get(code)
        if found is None:
            found = self.codes[code] = CodeMetrics()
        found.counts[bisect_left(BOUNDS, seconds)] += 1
        found.seconds += seconds


class CallMetrics:
    """Counts calls. Belongs in front of whatever turns calls away, so that those count, too."""

    def __init__(self) -> None:
        self.methods: dict[str, MethodMetrics] = {}
        """By the method's full name, once it was called. To be read on the event loop's thread."""

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        metrics = self.methods.get(context.method) or self._begin(context, streams=False)
        metrics.in_flight += 1
        started = perf_counter()
        try:
            response = await call_next(request, context)
        except BaseException as error:
            metrics.ended(code_of(error, context), perf_counter() - started)
            raise
        finally:
            metrics.in_flight -= 1
        metrics.ended(StatusCode.OK, perf_counter() - started)
        return response

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        metrics = self.methods.get(context.method) or self._begin(context, streams=True)
        metrics.in_flight += 1
        started = perf_counter()
        try:
            responses: Any = call_next(request, context)
            async with aclosing(responses):
                async for response in responses:
                    metrics.sent += 1
                    yield response
        except BaseException as error:
            metrics.ended(code_of(error, context), perf_counter() - started)
            raise
        finally:
            metrics.in_flight -= 1
        metrics.ended(StatusCode.OK, perf_counter() - started)

    def _begin(self, context: CallContext, *, streams: bool) -> MethodMetrics:
        made = self.methods[context.method] = MethodMetrics(streams=streams)
        return made
