"""The server's life: where it listens, how it stops, what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from stigmer_grpc import CallContext, Server, UnavailableError, _wire, connect

DATA = Path(__file__).parent / "data"


async def test_a_call_in_flight_is_answered_while_the_server_stops(lab: Any, note: Any) -> None:
    entered = asyncio.Event()
    release = asyncio.Event()

    async def slow(request: Any, context: CallContext) -> Any:
        entered.set()
        await release.wait()
        return request

    server = lab.server(echo=slow)
    async with lab.connected(server) as channel, asyncio.timeout(10):
        call = asyncio.ensure_future(channel.service("lab.v1.Lab").unary("echo", note(text="x")))
        await entered.wait()
        stop = asyncio.ensure_future(server.stop(grace=9))
        await server.stopping.wait()
        release.set()
        assert (await call).text == "x"
        await stop


async def test_under_load_every_call_that_began_is_answered(lab: Any, note: Any) -> None:
    began = answered = 0

    async def work(request: Any, context: CallContext) -> Any:
        nonlocal began
        began += 1
        for _ in range(5):
            await asyncio.sleep(0)
        return request

    async def hammer(stub: Any) -> None:
        nonlocal answered
        try:
            while True:
                await stub.unary("echo", note(text="x"))
                answered += 1
        except UnavailableError:
            return

    server = lab.server(echo=work)
    async with lab.connected(server) as channel, asyncio.timeout(30):
        stub = channel.service("lab.v1.Lab")
        clients = [asyncio.ensure_future(hammer(stub)) for _ in range(20)]
        while answered < 200:
            await stub.unary("echo", note(text="x"))
            answered += 1
        await server.stop(grace=10)
        await asyncio.gather(*clients)
    assert began == answered


async def test_an_idle_stream_ends_unavailable_after_the_grace_and_its_handler_is_closed(lab: Any, note: Any) -> None:
    closed = asyncio.Event()

    async def idle(request: Any, context: CallContext) -> AsyncIterator[Any]:
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            closed.set()

    server = lab.server(count=idle)
    async with lab.connected(server) as channel, asyncio.timeout(10):
        stream = channel.service("lab.v1.Lab").stream("count", note(text="x"))
        await anext(stream)
        stop = asyncio.ensure_future(server.stop(grace=0.1))
        with pytest.raises(UnavailableError, match="the server is stopping"):
            await anext(stream)
        await stop
        assert closed.is_set()


async def test_a_stream_that_watches_for_the_stop_ends_well(lab: Any, note: Any) -> None:
    async def watchful(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        await context.stopping.wait()
        yield type(request)(text="goodbye")

    server = lab.server(count=watchful)
    async with lab.connected(server) as channel, asyncio.timeout(10):
        stream = channel.service("lab.v1.Lab").stream("count", note(text="x"))
        await anext(stream)
        stop = asyncio.ensure_future(server.stop(grace=9))
        assert [answer.text async for answer in stream] == ["goodbye"]
        await stop


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_the_stop(lab: Any, note: Any) -> None:
    release = asyncio.Event()
    entered = asyncio.Event()

    async def stubborn(request: Any, context: CallContext) -> Any:
        entered.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return request

    server = lab.server(echo=stubborn)
    async with lab.connected(server) as channel, asyncio.timeout(10):
        call = asyncio.ensure_future(channel.service("lab.v1.Lab").unary("echo", note(text="x")))
        await entered.wait()
        await server.stop(grace=0)
        release.set()
        await asyncio.wait([call])
        assert call.exception() is None or isinstance(call.exception(), UnavailableError)


async def test_a_connection_has_so_many_calls_at_once_and_goes_on_after_more(
    tcp_lab: Any, note: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wire, "MOST_STREAMS", 2)
    running = most = 0

    async def slow(request: Any, context: CallContext) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(50):
            await asyncio.sleep(0)
        running -= 1
        return request

    async with tcp_lab.connected(tcp_lab.server(echo=slow)) as channel, asyncio.timeout(20):
        stub = channel.service("lab.v1.Lab")
        calls = (stub.unary("echo", note(text="x")) for _ in range(20))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ends} <= {type(note(text="x")), UnavailableError}
        assert 0 < most <= 2
        assert (await stub.unary("echo", note(text="y"))).text == "y"


async def test_a_stopped_server_takes_no_calls(lab: Any, note: Any) -> None:
    server = lab.server()
    async with lab.connected(server, timeout=5) as channel:
        stub = channel.service("lab.v1.Lab")
        await stub.unary("echo", note(text="x"))
        await server.stop()
        with pytest.raises(UnavailableError):
            await stub.unary("echo", note(text="x"))
        with pytest.raises(UnavailableError):
            await channel.ready(0.1)


async def test_stopping_again_or_at_once_or_before_the_start_is_harmless(lab: Any) -> None:
    server = lab.server()
    async with lab.connected(server):
        await asyncio.gather(server.stop(), server.stop(0))
        await server.stop()
    never_started = lab.server()
    await never_started.stop()
    with pytest.raises(RuntimeError, match="starts once"):
        await never_started.start()


async def test_a_stop_goes_on_when_its_caller_is_cancelled(tcp_lab: Any, note: Any) -> None:
    entered = asyncio.Event()

    async def forever(request: Any, context: CallContext) -> Any:
        entered.set()
        await asyncio.Event().wait()

    server = tcp_lab.server(echo=forever)
    (address,) = await server.start()
    async with connect(address, pool=tcp_lab.pool) as channel, asyncio.timeout(10):
        call = asyncio.ensure_future(channel.service("lab.v1.Lab").unary("echo", note(text="x")))
        await entered.wait()
        impatient = asyncio.ensure_future(server.stop(grace=0.2))
        await server.stopping.wait()
        impatient.cancel()
        await server.stop()
        with pytest.raises(UnavailableError):
            await call


async def test_a_server_listens_at_several_addresses_loopback_by_default(
    tcp_lab: Any, note: Any, tmp_path: Path
) -> None:
    server = tcp_lab.server()
    socket = f"unix:{tmp_path / 's'}"
    bound = await server.start("127.0.0.1:0", ":0", socket)
    assert bound == server.addresses
    assert bound[2] == socket
    for address in bound:
        assert address.startswith(("127.0.0.1:", "unix:"))
        assert not address.endswith(":0")
        async with connect(address, pool=tcp_lab.pool) as channel:
            await channel.ready(10)
            assert (await channel.service("lab.v1.Lab").unary("echo", note(text="x"))).text == "x"
    await server.stop()
    other = tcp_lab.server()
    (default,) = await other.start()
    assert default.startswith("127.0.0.1:")
    await other.stop()


async def test_an_address_in_use_is_an_error_and_leaves_nothing_open(tcp_lab: Any, pool: Any) -> None:
    first, second = tcp_lab.server(), tcp_lab.server()
    (taken,) = await first.start()
    with pytest.raises(OSError, match=f"cannot listen at {taken}"):
        await second.start("127.0.0.1:0", taken)
    assert second.addresses == ()
    await second.start("127.0.0.1:0")
    await first.stop()
    await second.stop()


async def test_services_of_one_name_are_refused(tcp_lab: Any, pool: Any) -> None:
    service = tcp_lab.service()
    with pytest.raises(ValueError, match=r"bound twice: lab\.v1\.Lab"):
        Server([service, service], pool=pool)


async def test_a_channel_says_when_nobody_answers_and_connects_late(tcp_lab: Any, note: Any, tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"
    async with connect(address, pool=tcp_lab.pool) as channel, asyncio.timeout(10):
        with pytest.raises(UnavailableError, match="no server answers at unix:"):
            await channel.ready(0.05)
        with pytest.raises(UnavailableError):
            await channel.service("lab.v1.Lab").unary("echo", note(text="x"))
        server = tcp_lab.server()
        await server.start(address)
        await channel.ready(9)
        assert (await channel.service("lab.v1.Lab").unary("echo", note(text="x"))).text == "x"
        await server.stop()


async def test_nobody_waits_long_for_a_server_that_is_not_there(tcp_lab: Any, tmp_path: Path) -> None:
    async with connect(f"unix:{tmp_path / 's'}", pool=tcp_lab.pool) as channel, asyncio.timeout(20):
        with pytest.raises(UnavailableError, match=r"no server answers at unix:.* after 0\.[1-9]"):
            await channel.ready(60, patience=0.2)
        waiting = asyncio.create_task(channel.ready(60, patience=30))
        server = tcp_lab.server()
        await server.start(f"unix:{tmp_path / 's'}")
        await waiting
        await server.stop()


async def test_tls_is_served_to_clients_that_trust_the_certificate(tcp_lab: Any, note: Any) -> None:
    key, certificate = (DATA / "localhost.key").read_bytes(), (DATA / "localhost.crt").read_bytes()
    server = tcp_lab.server()
    (address,) = await server.start("localhost:0", credentials=grpc.ssl_server_credentials([(key, certificate)]))
    trusting = grpc.ssl_channel_credentials(root_certificates=certificate)
    async with connect(address, pool=tcp_lab.pool, credentials=trusting) as channel:
        await channel.ready(10)
        assert (await channel.service("lab.v1.Lab").unary("echo", note(text="x"))).text == "x"
    for credentials in (None, grpc.ssl_channel_credentials()):
        async with connect(address, pool=tcp_lab.pool, credentials=credentials) as channel:
            with pytest.raises(UnavailableError):
                await channel.service("lab.v1.Lab").unary("echo", note(text="x"), timeout=5)
    await server.stop()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts file descriptors in /proc")
async def test_two_hundred_clients_that_come_and_go_leave_no_task_and_no_descriptor(lab: Any, note: Any) -> None:
    async def endless(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        await asyncio.Event().wait()

    server = lab.server(count=endless)

    async def come_and_go(address: str) -> None:
        channel = server.channel() if address == "" else connect(address, pool=lab.pool)
        async with channel:
            stub = channel.service("lab.v1.Lab")
            await stub.unary("echo", note(text="x"))
            stream = stub.stream("count", note(text="x"))
            await anext(stream)

    async with lab.connected(server) as channel:
        await channel.service("lab.v1.Lab").unary("echo", note(text="x"))
        address = next(iter(server.addresses), "")
        await come_and_go(address)
        tasks, descriptors = len(asyncio.all_tasks()), _descriptors()
        for _ in range(200):
            await come_and_go(address)
        async with asyncio.timeout(20):
            while len(asyncio.all_tasks()) > tasks or _descriptors() > descriptors + 3:
                # grpc.aio's calls are reference cycles: their connections close when those are collected.
                gc.collect()
                await asyncio.sleep(0.01)


async def test_a_client_that_asks_often_whether_the_server_is_there_keeps_its_quiet_stream(
    tcp_lab: Any, note: Any
) -> None:
    async def rests(request: Any, context: CallContext) -> AsyncIterator[Any]:
        yield request
        await asyncio.sleep(4)  # several pings long; a client sends one a second at most
        yield request

    server = tcp_lab.server(count=rests)
    (address,) = await server.start()
    options = (("grpc.keepalive_time_ms", 1000), ("grpc.http2.max_pings_without_data", 0))
    async with grpc.aio.insecure_channel(address, options=options) as channel, asyncio.timeout(10):
        untyped: Any = channel
        answers = untyped.unary_stream("/lab.v1.Lab/count")(note(text="x").SerializeToString())
        assert len([answer async for answer in answers]) == 2
    await server.stop(0)
