"""Spans of calls, for OpenTelemetry: made by servers and clients, and joined by what the call's metadata says.

Imported only by those whose traces somebody wants, because OpenTelemetry takes its time and its memory; it comes with
the extra `otel`. Names and attributes are those of OpenTelemetry's conventions for RPC. A span tells which method was
called, how long it took and its status code, and nothing of what was sent, answered or said about an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import aclosing, contextmanager
from threading import Timer
from typing import Any

from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, Tracer, set_span_in_context
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stigmer_grpc._transport import ByteStream, Pairs, Route, Trailers, Transport
from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import CancelledError, RpcError, StatusCode
from stigmer_grpc.interceptors.call_log import code_of
from stigmer_grpc.interceptors.port import CallNext, CallNextStream

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACEPARENT = "traceparent"
_CLOSE_SECONDS = 2.0
_SERVER_FAULTS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
"""Codes with which a server did not do its part; with the others its caller did not."""


class Tracing:
    """The traces of this process: makes the spans, and sends them off in batches, from a thread of its own.

    Spans that cannot be sent are dropped, and calls never wait for them. Everything but the arguments is as the
    standard variables say that OpenTelemetry's own library reads (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS …).

    Args:
        service: Name of the process in traces, unless those variables give one.
        endpoint: URL that takes the spans, by OTLP over HTTP; empty: as the variables say, or this machine's port 4318.
    """

    def __init__(self, service: str, *, endpoint: str = "") -> None:
        named = Resource.create({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
        # No events: what libraries put there is the text of errors, which may hold anything.
        self._provider = TracerProvider(resource=named, span_limits=SpanLimits(max_events=0), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(endpoint=endpoint or None)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer: Tracer = self._provider.get_tracer("stigmer")
        """For spans of other things than calls."""

    def close(self) -> None:
        """Send what is left, trying for two seconds, and stop; blocks meanwhile."""
        # The exporter would try for ten seconds; told to stop, it gives up.
        impatience = Timer(_CLOSE_SECONDS, self._exporter.shutdown)
        impatience.start()
        try:
            self._provider.shutdown()
        finally:
            impatience.cancel()

    @contextmanager
    def span(self, name: str) -> Generator[None]:
        """Have everything in the block in one span."""
        with self.tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
            yield

    def here(self) -> str:
        """Return the place in a trace that this is, as the header `traceparent` says it; empty where there is none."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get(_TRACEPARENT, "")

    @contextmanager
    def joining(self, place: str) -> Generator[None]:
        """Have the spans in the block belong to a place in a trace that `here` told, and to none where it is empty."""
        token = attach(_PROPAGATOR.extract({_TRACEPARENT: place}, context=Context()))
        try:
            yield
        finally:
            detach(token)

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        with self._serving(context):
            return await call_next(request, context)

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        with self._serving(context):
            responses: Any = call_next(request, context)
            async with aclosing(responses):
                async for response in responses:
                    yield response

    def transport(self, inner: Transport) -> Transport:
        """Return a transport that makes a span of every call, and says so to the server."""
        return _TracedTransport(inner, self.tracer)

    @contextmanager
    def _serving(self, context: CallContext) -> Generator[None]:
        with self.tracer.start_as_current_span(
            context.method.lstrip("/"),
            context=_PROPAGATOR.extract(context.metadata),
            kind=SpanKind.SERVER,
            attributes=_attributes(context.method),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                code = code_of(error, context)
                _end(span, code, is_fault=code in _SERVER_FAULTS)
                raise
            _end(span, StatusCode.OK)


class _TracedTransport:
    """See Transport."""

    def __init__(self, inner: Transport, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    async def unary(
        self,
        route: Route,
        request: bytes | AsyncIterator[bytes],
        timeout: float | None,  # noqa: ASYNC109 - the deadline is part of the call
        metadata: Pairs,
        trailers: Trailers | None,
    ) -> bytes:
        """See Transport."""
        span = self._begin(route)
        try:
            response = await self._inner.unary(route, request, timeout, _with(metadata, span), trailers)
        except BaseException as error:
            _end(span, _code(error), is_fault=True)
            raise
        else:
            _end(span, StatusCode.OK)
            return response
        finally:
            span.end()

    def stream(
        self, route: Route, request: bytes | AsyncIterator[bytes], timeout: float | None, metadata: Pairs
    ) -> ByteStream:
        """See Transport."""
        span = self._begin(route)
        return _TracedStream(self._inner.stream(route, request, timeout, _with(metadata, span)), span)

    async def ready(
        self,
        timeout: float | None,  # noqa: ASYNC109 - the wait is the point of it
        patience: float | None,
    ) -> None:
        """See Transport."""
        await self._inner.ready(timeout, patience)

    async def close(self) -> None:
        """See Transport."""
        await self._inner.close()

    def _begin(self, route: Route) -> Span:
        return self._tracer.start_span(
            route.path.lstrip("/"), kind=SpanKind.CLIENT, attributes=_attributes(route.path), record_exception=False
        )


class _TracedStream:
    """The responses of a call; its span ends with them, or when nobody wants them any more."""

    def __init__(self, inner: ByteStream, span: Span) -> None:
        self._inner = inner
        self._span = span

    async def read(self) -> bytes:
        """See ByteStream."""
        try:
            return await self._inner.read()
        except StopAsyncIteration:
            self._ended(StatusCode.OK)
            raise
        except BaseException as error:
            self._ended(_code(error))
            raise

    def cancel(self) -> None:
        """See ByteStream."""
        self._inner.cancel()
        self._ended(StatusCode.CANCELLED)

    async def trailers(self) -> Trailers:
        """See ByteStream."""
        return await self._inner.trailers()

    def __del__(self) -> None:
        self._ended(StatusCode.CANCELLED)

    def _ended(self, code: StatusCode) -> None:
        """End the span; the first end counts."""
        if self._span.is_recording():
            # Whoever reads no further has what it wanted, which is no fault.
            _end(self._span, code, is_fault=code is not StatusCode.CANCELLED)
            self._span.end()


def _attributes(path: str) -> dict[str, str]:
    service, _, method = path.lstrip("/").partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def _with(metadata: Pairs, span: Span) -> Pairs:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context=set_span_in_context(span, Context()))
    return (*_without(metadata, carrier), *carrier.items())


def _without(metadata: Pairs, keys: Iterable[str]) -> Pairs:
    return tuple(pair for pair in metadata if pair[0] not in keys)


def _code(error: BaseException) -> StatusCode:
    return error.code if isinstance(error, RpcError) else CancelledError.code


def _end(span: Span, code: StatusCode, *, is_fault: bool = False) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value)
    if is_fault and code is not StatusCode.OK:
        span.set_status(Status(SpanStatus.ERROR))
