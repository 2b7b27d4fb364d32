"""Spans of calls, as a collector gets them, and that there are none unless they are asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from stigmer_grpc import (
    CallContext,
    InternalError,
    NotFoundError,
    RpcError,
    Stub,
    connect,
    default_interceptors,
    open_tracing,
)
from stigmer_grpc.collector import Collected, Collector, collecting
from stigmer_grpc.tracing import Tracing

SERVER, CLIENT = 2, 3
SECRET = "swordfish"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def traced(collector: Collector, service: str) -> Tracing:
    made = open_tracing(service, endpoint=collector.endpoint)
    assert made is not None
    return made


@asynccontextmanager
async def pair(lab: Any, collector: Collector, **handlers: Any) -> AsyncGenerator[tuple[Stub, Tracing]]:
    """Yield a client and its traces, of a server that has traces, too; both have sent them when the block has ended."""
    here, there = traced(collector, "here"), traced(collector, "there")
    server = lab.server(interceptors=default_interceptors(tracing=there), **handlers)
    (address,) = await server.start("127.0.0.1:0")
    try:
        async with connect(address, pool=lab.pool, tracing=here) as channel:
            yield channel.service("lab.v1.Lab"), here
    finally:
        await server.stop(1)
        await asyncio.to_thread(here.close)
        await asyncio.to_thread(there.close)


def one(spans: list[Collected], service: str, name: str) -> Collected:
    (found,) = (span for span in spans if (span.service, span.name) == (service, name))
    return found


@pytest.mark.parametrize("name", ["echo", "count", "collect", "relay"])
async def test_a_call_of_any_shape_is_one_trace_of_client_and_server(
    tcp_lab: Any, note: Any, collector: Collector, name: str
) -> None:
    async with pair(tcp_lab, collector) as (stub, here):
        with here.span("all of it"):
            match name:
                case "echo":
                    await stub.unary(name, note(text=SECRET))
                case "count":
                    assert [item async for item in stub.stream(name, note(text=SECRET, number=2))]
                case "collect":
                    await stub.client_stream(name, [note(text=SECRET)])
                case _:
                    assert [item async for item in stub.bidi(name, [note(text=SECRET)])]
    root = one(collector.spans, "here", "all of it")
    sent = one(collector.spans, "here", f"lab.v1.Lab/{name}")
    served = one(collector.spans, "there", f"lab.v1.Lab/{name}")
    assert len(collector.spans) == 3
    assert not root.parent
    assert (sent.parent, served.parent) == (root.id, sent.id)
    assert {span.trace for span in collector.spans} == {root.trace}
    assert (sent.kind, served.kind) == (CLIENT, SERVER)
    expected = {"rpc.system": "grpc", "rpc.service": "lab.v1.Lab", "rpc.method": name, "rpc.grpc.status_code": 0}
    assert sent.attributes == served.attributes == expected
    assert not sent.failed
    assert not served.failed
    assert not any(SECRET.encode() in span.raw for span in collector.spans)


@pytest.mark.parametrize(("error", "blames_server"), [(NotFoundError, False), (InternalError, True)])
async def test_a_failure_has_its_code_and_not_its_text(
    tcp_lab: Any, note: Any, collector: Collector, error: type[RpcError], blames_server: bool
) -> None:
    async def echo(request: Any, context: CallContext) -> Any:
        raise error(SECRET)

    async def count(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        raise error(SECRET)

    async with pair(tcp_lab, collector, echo=echo, count=count) as (stub, _):
        with pytest.raises(error):
            await stub.unary("echo", note(text="x"))
        with pytest.raises(error):
            _ = [item async for item in stub.stream("count", note(text="x"))]
    assert len(collector.spans) == 4
    for span in collector.spans:
        assert span.attributes["rpc.grpc.status_code"] == error.code.value
        assert span.failed == (blames_server or span.kind == CLIENT)
        assert SECRET.encode() not in span.raw


async def test_a_stream_that_is_given_up_ends_its_spans(tcp_lab: Any, note: Any, collector: Collector) -> None:
    async def count(request: Any, context: CallContext) -> AsyncIterator[Any]:
        while True:
            yield request
            await asyncio.sleep(0)

    async with pair(tcp_lab, collector, count=count) as (stub, _), stub.stream("count", note(text="x")) as stream:
        await anext(stream)
    assert {span.service: span.attributes["rpc.grpc.status_code"] for span in collector.spans} == {
        "here": 1,
        "there": 1,
    }
    assert not one(collector.spans, "here", "lab.v1.Lab/count").failed


async def test_a_trace_of_a_caller_that_is_none_of_ours_goes_on(tcp_lab: Any, note: Any, collector: Collector) -> None:
    there = traced(collector, "there")
    given = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with tcp_lab.serve(interceptors=[there], metadata=given) as stub:
        await stub.unary("echo", note(text="x"))
    await asyncio.to_thread(there.close)
    (span,) = collector.spans
    assert (span.trace, span.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


async def test_calls_go_on_when_no_collector_answers(tcp_lab: Any, note: Any) -> None:
    with collecting() as gone:
        pass
    async with asyncio.timeout(30):
        async with pair(tcp_lab, gone) as (stub, _):
            assert (await stub.unary("echo", note(text="x"))).text == "x"
    assert not gone.spans


def test_traces_are_asked_for_by_the_standard_variables(collector: Collector) -> None:
    assert open_tracing("x") is None
    assert open_tracing("x", exporter="none", endpoint=collector.endpoint) is None
    for asked in (
        open_tracing("x", traces_endpoint=f"{collector.endpoint}/v1/traces"),
        open_tracing("x", exporter="otlp", endpoint=f"{collector.endpoint}/"),
    ):
        assert asked is not None
        with asked.span("one"):
            pass
        asked.close()
    assert [(span.service, span.name) for span in collector.spans] == [("x", "one")] * 2
    assert not collector.refused


def test_the_variables_name_the_service(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    made = traced(collector, "x")
    with made.span("one"):
        pass
    made.close()
    assert [span.service for span in collector.spans] == ["mine"]


def test_without_traces_opentelemetry_is_not_imported() -> None:
    program = (
        "import sys, stigmer_grpc; assert stigmer_grpc.open_tracing('x') is None; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
