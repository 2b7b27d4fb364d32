"""Connections that want too much: of memory, of time, of places; and how the others fare."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from stigmer_grpc import CallContext
from stigmer_protos import descriptors

from stigmer_server.http.listener import ListenerLimits
from stigmer_server.http.testing import Front, serve_handlers

RESOURCES = "ai.stigmer.resources.v1.ResourceController"
LIST: Any = descriptors.message_type("ai.stigmer.resources.v1.ResourceList")
WATCH_EVENT: Any = descriptors.message_type("ai.stigmer.resources.v1.WatchEvent")
HOST = b"host: localhost\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
JSON = b"content-type: application/json\r\n"


async def talk(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(20):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    async with serve_handlers({RESOURCES: {"list": listed}}, limits=ListenerLimits(head_seconds=0.3)) as stand:
        silent, begun, dribbled = await asyncio.gather(
            talk(stand.port),
            talk(stand.port, b"GET / HTTP/1.1\r\nhost: loc"),
            talk(stand.port, *(b"x" for _ in range(20)), pause=0.1),
        )
        later = await talk(stand.port, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n", b"\r\n", b"GET")
    assert silent == b""
    assert begun.startswith(b"HTTP/1.1 408 ")
    assert dribbled[:12] in (b"HTTP/1.1 408", b"HTTP/1.1 400", b"")
    assert later.startswith(b"HTTP/1.1 404")
    assert b"HTTP/1.1 408" in later


async def test_a_hundred_slow_callers_do_not_hold_up_the_others() -> None:
    limits = ListenerLimits(head_seconds=5)
    async with serve_handlers({RESOURCES: {"list": listed}}, limits=limits) as stand:
        slow = [asyncio.create_task(talk(stand.port, b"POST /v1")) for _ in range(100)]
        await asyncio.sleep(0)
        async with asyncio.timeout(4):
            for _ in range(20):
                assert (await call(stand.client)).status_code == 200
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_an_idle_connection_is_closed() -> None:
    limits = ListenerLimits(keep_alive_seconds=1)
    async with serve_handlers({RESOURCES: {"list": listed}}, limits=limits) as stand:
        answer = await talk(stand.port, b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 200_000,
        b"GET / HTTP/1.1\r\n" + HOST + b"x-header: y\r\n" * 20_000 + b"\r\n",
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"transfer-encoding: chunked\r\n\r\n0\r\n"
        + b"trailer: y\r\n" * 20_000
        + b"\r\n",
    ],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    async with serve_handlers({RESOURCES: {"list": listed}}) as stand:
        answer = await talk(stand.port, *(head[at : at + 10_000] for at in range(0, len(head), 10_000)))
        assert answer[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 404", b"")
        assert (await call(stand.client)).status_code == 200


async def test_more_connections_than_allowed_are_turned_away_and_let_in_again() -> None:
    async with serve_handlers({RESOURCES: {"list": listed}}, limits=ListenerLimits(connections=5)) as stand:
        held = [await asyncio.open_connection("127.0.0.1", stand.port) for _ in range(5)]
        refused = await talk(stand.port, b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n")
        assert refused.startswith(b"HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while (await talk(stand.port, b"GET /x HTTP/1.0\r\n" + HOST + b"\r\n"))[9:12] != b"404":
                pass


async def test_a_reader_that_takes_nothing_is_dropped() -> None:
    ended = asyncio.Event()

    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            while True:
                yield WATCH_EVENT(resume_token="x" * 1_000_000)
        finally:
            ended.set()

    limits = ListenerLimits(write_seconds=0.3)
    async with serve_handlers({RESOURCES: {"watch": watch}}, limits=limits) as stand:
        _, writer = await asyncio.open_connection("127.0.0.1", stand.port, limit=2**10)
        writer.write(b"GET /v1/resources:watch HTTP/1.1\r\n" + HOST + b"\r\n")
        async with asyncio.timeout(20):
            await ended.wait()
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n host: localhost\r\n\r\n",
        b"POST /v1/agents HTTP/1.1\r\n"
        + HOST
        + JSON
        + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/agents HTTP/1.1\r\n" + HOST + JSON + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST /v1/agents HTTP/1.1\r\n" + HOST + JSON + b"content-length: -1\r\n\r\n",
        b"POST /v1/agents HTTP/1.1\r\n" + HOST + JSON + b"content-length: 1e3\r\n\r\n",
        b"POST /v1/agents HTTP/1.1\r\n" + HOST + JSON + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"POST /v1/agents HTTP/1.1\r\n" + HOST + JSON + b"transfer-encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"x: a\x00b\r\n\r\n",
        b"GET http://evil.example/v1/agents HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_could_be_understood_in_two_ways_is_refused(request_bytes: bytes) -> None:
    async with serve_handlers({RESOURCES: {"list": listed}}, limits=ListenerLimits(head_seconds=1)) as stand:
        answer = await talk(stand.port, request_bytes + b"GET /nothing HTTP/1.0\r\nhost: localhost\r\n\r\n")
        status = answer[9:12]
        assert status == b"" or status[:1] == b"4", answer
        assert (await call(stand.client)).status_code == 200


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    async with serve_handlers({RESOURCES: {"list": listed}}) as stand:
        paths = (f"GET /nothing-{number} HTTP/1.1\r\nhost: localhost\r\n\r\n" for number in range(10))
        last = b"GET /nothing-10 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        answer = await talk(stand.port, "".join(paths).encode() + last)
    found = [answer.index(f"/nothing-{number};".encode()) for number in range(11)]
    assert found == sorted(found)


@pytest.mark.parametrize("http_settings", [{"http_max_connections": 600}])
async def test_five_hundred_callers_at_once_are_served(front: Front) -> None:
    agent = await front.agent()
    limits = httpx2.Limits(max_connections=500, max_keepalive_connections=500)
    async with httpx2.AsyncClient(base_url=front.client.base_url, limits=limits, timeout=60) as client:
        answers = await asyncio.gather(*(client.get(f"/v1/agents/{agent['metadata']['id']}") for _ in range(500)))
    assert {answer.status_code for answer in answers} == {200}


async def test_many_followers_see_every_end() -> None:
    go = asyncio.Event()

    async def watch(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield WATCH_EVENT(resume_token="a")
        await go.wait()
        yield WATCH_EVENT(resume_token="b")

    async with serve_handlers({RESOURCES: {"watch": watch}}) as stand, AsyncExitStack() as stack:
        limits = httpx2.Limits(max_connections=None)
        client = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=stand.client.base_url, limits=limits, timeout=60)
        )
        calls = [asyncio.create_task(client.get("/v1/resources:watch")) for _ in range(200)]
        await asyncio.sleep(0.5)
        go.set()
        for answer in await asyncio.gather(*calls):
            assert [line for line in answer.text.split("\n") if line.startswith("id: ")] == ["id: a", "id: b"]
            assert "event: end" in answer.text


async def test_the_stop_lets_requests_end_and_takes_no_more() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(request: Any, context: CallContext) -> Any:
        begun.set()
        await go.wait()
        return LIST(total_count=7)

    async with serve_handlers({RESOURCES: {"list": slow}}) as stand:
        open_call = asyncio.create_task(call(stand.client))
        await begun.wait()
        stop = asyncio.gather(stand.server.stop(5), stand.listener.stop(5))
        await asyncio.sleep(0.2)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", stand.port)
        go.set()
        answer = await open_call
        async with asyncio.timeout(10):
            await stop
    assert answer.json() == {"totalCount": 7}


async def test_the_stop_has_a_bound() -> None:
    async def stuck(request: Any, context: CallContext) -> Any:
        await asyncio.Event().wait()

    async with serve_handlers({RESOURCES: {"list": stuck}}, grace=0.2) as stand:
        open_call = asyncio.create_task(call(stand.client))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            await asyncio.gather(stand.server.stop(0.2), stand.listener.stop(0.2))
        assert (await open_call).status_code == 503


async def listed(request: Any, context: CallContext) -> Any:
    return LIST(total_count=1)


async def call(client: httpx2.AsyncClient) -> httpx2.Response:
    return await client.post(f"/rpc/{RESOURCES}/list", json={"kind": "agent"})
