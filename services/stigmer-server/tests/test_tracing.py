"""Traces of a server in a process of its own, and that there are none, and no cost, unless they are asked for."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from stigmer_grpc.collector import Collector, collecting

from stigmer_server.testing import ServerProcess, free_port, manifest

pytestmark = pytest.mark.slow
GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


async def until_open(port: int) -> None:
    """Wait for HTTP, which is offered a little after gRPC."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def stopped(server: ServerProcess) -> str:
    server.process.send_signal(signal.SIGTERM)
    code, said = await server.ended()
    assert code == 0, said
    return said


async def test_calls_over_grpc_and_http_go_on_with_the_trace_of_their_caller(
    tmp_path: Path, collector: Collector
) -> None:
    port = free_port()
    # Python says what it imports.
    server = ServerProcess(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        STIGMER_HTTP_PORT=str(port),
        PYTHONPROFILEIMPORTTIME="1",
    )
    try:
        api = await server.ready()
        await api.any("list", {"kind": "agent", "org": "local"}, metadata={"traceparent": GIVEN})
        await until_open(port)
        async with httpx2.AsyncClient() as client:
            answer = await client.get(
                f"http://127.0.0.1:{port}/v1/agents", params={"org": "local"}, headers={"traceparent": GIVEN}
            )
        assert answer.status_code < 500
        said = await stopped(server)
    finally:
        await server.close()
    assert "opentelemetry" in said
    assert collector.spans
    assert {(span.service, span.kind) for span in collector.spans} == {("stigmer-server", 2)}
    trace, parent = GIVEN.split("-")[1:3]
    assert {(span.trace, span.parent) for span in collector.spans} == {(trace, parent)}


async def test_without_the_variables_nothing_is_sent_and_opentelemetry_is_not_imported(
    tmp_path: Path, collector: Collector
) -> None:
    server = ServerProcess(tmp_path, OTEL_SERVICE_NAME="x", PYTHONPROFILEIMPORTTIME="1")
    try:
        api = await server.ready()
        await api("agent", "create", manifest("agent", "quiet", {"instructions": "Say little, and say it well."}))
        said = await stopped(server)
    finally:
        await server.close()
    assert "stigmer_server.app" in said
    assert "opentelemetry" not in said
    assert not collector.spans


async def test_the_server_ends_in_time_when_no_collector_answers(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    try:
        api = await server.ready()
        await api.any("list", {"kind": "agent", "org": "local"})
        async with asyncio.timeout(30):
            await stopped(server)
    finally:
        await server.close()
