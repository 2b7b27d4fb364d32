"""What the framework costs on top of bare grpc.aio, and what a call costs with no socket.

Both servers run in processes of their own on uvloop and echo the same bytes to the same client, round by round in
turn. Ours decodes, validates and encodes the message, gives the call its id, and logs at DEBUG to a sink at INFO.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
from _report import Row, print_rows
from loguru import logger
from stigmer_grpc import Channel, Server, bind, connect, default_interceptors, run
from stigmer_protos.descriptors import message_type, pool

SERVICE = "ai.stigmer.agentic.agent.v1.AgentCommandController"
METHOD = "create"
PATH = f"/{SERVICE}/{METHOD}"
CONCURRENCY = 50


def payload() -> bytes:
    """An agent of about a kilobyte."""
    agent: Any = message_type("ai.stigmer.agentic.agent.v1.Agent")()
    agent.api_version = "agentic.stigmer.ai/v1"
    agent.kind = "Agent"
    agent.metadata.name = "release-notes"
    agent.metadata.org = "local"
    agent.metadata.owner_scope = 2
    agent.spec.instructions = "Read the commits since the last tag and write release notes for people. " * 12
    return agent.SerializeToString()


async def echo(request: Any, context: Any) -> Any:
    return request


async def echo_bytes(request: Any, context: Any) -> bytes:
    return request.SerializeToString()


async def serve_ours() -> None:
    logger.remove()
    logger.add(lambda _: None, level="INFO")
    service = bind(pool(), SERVICE, {METHOD: echo, "delete": echo_bytes})
    server = Server([service], pool=pool(), interceptors=default_interceptors())
    (address,) = await server.start()
    await announce(address)
    await server.stop(0)


async def serve_bare() -> None:
    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return handler

    untyped: Any = grpc
    handler = untyped.unary_unary_rpc_method_handler(echo)
    server: Any = grpc.aio.server(handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await announce(f"127.0.0.1:{port}")
    await server.stop(0)


async def announce(address: str) -> None:
    """Say the address, then wait until the benchmark closes our input."""
    print(address, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@asynccontextmanager
async def child(role: str) -> AsyncGenerator[tuple[str, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__)),
        "--serve",
        role,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip(), process.pid
    finally:
        process.stdin.close()
        await process.wait()


def cpu_seconds(pid: int) -> float:
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


async def calls_per_second(call: Callable[[], Awaitable[Any]], count: int) -> float:
    each = count // CONCURRENCY

    async def loop() -> None:
        for _ in range(each):
            await call()

    started = perf_counter()
    await asyncio.gather(*(loop() for _ in range(CONCURRENCY)))
    return each * CONCURRENCY / (perf_counter() - started)


async def seconds_per_call(call: Callable[[], Awaitable[Any]], count: int) -> float:
    started = perf_counter()
    for _ in range(count):
        await call()
    return (perf_counter() - started) / count


async def throughput(rounds: int, count: int) -> list[Row]:
    raw = payload()
    async with AsyncExitStack() as stack:
        ours_at, ours_pid = await stack.enter_async_context(child("ours"))
        bare_at, bare_pid = await stack.enter_async_context(child("bare"))
        ours_client: Any = await stack.enter_async_context(grpc.aio.insecure_channel(ours_at))
        bare_client: Any = await stack.enter_async_context(grpc.aio.insecure_channel(bare_at))
        stub = (await stack.enter_async_context(connect(ours_at, pool=pool()))).service(SERVICE)
        ours_call = ours_client.unary_unary(PATH)
        bare_call = bare_client.unary_unary(PATH)
        small = message_type("ai.stigmer.agentic.agent.v1.AgentId")(value="agt_01jexample").SerializeToString()
        ours_small_call = ours_client.unary_unary(f"/{SERVICE}/delete")
        message = message_type("ai.stigmer.agentic.agent.v1.Agent").FromString(raw)
        calls: dict[str, tuple[Callable[[], Awaitable[Any]], int]] = {
            "ours": (lambda: ours_call(raw), ours_pid),
            "bare": (lambda: bare_call(raw), bare_pid),
            "small": (lambda: ours_small_call(small), ours_pid),
            "bare small": (lambda: bare_call(small), bare_pid),
            "stub": (lambda: stub.unary(METHOD, message), ours_pid),
        }
        rates: dict[str, list[float]] = {name: [] for name in calls}
        cpu: dict[str, list[float]] = {name: [] for name in calls}
        for call, _ in calls.values():
            await calls_per_second(call, count)
        for _ in range(rounds):
            for name, (call, pid) in calls.items():
                before = cpu_seconds(pid)
                rates[name].append(await calls_per_second(call, count))
                cpu[name].append((cpu_seconds(pid) - before) / count * 1e6)
    rate = {name: beside(values, rates["bare"]) for name, values in rates.items()}
    cost = {name: beside(values, cpu["bare"]) for name, values in cpu.items()}
    rate["small"] = beside(rates["small"], rates["bare small"])
    rate["bare small"] = statistics.median(rates["bare small"])
    bare = "bare grpc.aio"
    size = f"{len(raw)} bytes"
    return [
        Row(name=f"echo of {size}, bare client", ours=rate["ours"], peer_name=bare, peer=rate["bare"], unit="calls/s",
            limit=0.75, at_least=True),
        Row(name=f"echo of {size}, our client too", ours=rate["stub"], peer_name=bare, peer=rate["bare"],
            unit="calls/s", limit=0.75, at_least=True),
        Row(name=f"echo of {len(small)} bytes, bare client", ours=rate["small"], peer_name=bare,
            peer=rate["bare small"], unit="calls/s", limit=0.75, at_least=True),
        Row(name=f"server CPU a call of {size}", ours=cost["ours"], peer_name=bare, peer=cost["bare"], unit="µs",
            limit=1.33),
    ]  # fmt: skip


def beside(values: list[float], peer: list[float]) -> float:
    """The peer's median times the median of the rounds' ratios, so that what else the machine does weighs on both."""
    return statistics.median(peer) * statistics.median(a / b for a, b in zip(values, peer, strict=True))


async def in_process(rounds: int, count: int) -> list[Row]:
    rows: list[Row] = []
    empty = message_type("ai.stigmer.agentic.agent.v1.AgentId")
    agent = message_type("ai.stigmer.agentic.agent.v1.Agent")
    service = bind(pool(), SERVICE, {METHOD: echo, "delete": nothing})
    for name, method, request, chain in (
        ("empty call, no interceptors", "delete", empty(), ()),
        ("call of an agent, whole chain", METHOD, agent.FromString(payload()), default_interceptors()),
    ):
        server = Server([service], pool=pool(), interceptors=chain)
        (address,) = await server.start()
        async with connect(address, pool=pool()) as wire, server.channel() as direct:
            near, far = await latencies(direct, wire, method, request, rounds, count)
        await server.stop(0)
        rows.append(Row(name=f"{name}, in process", ours=near, peer_name="loopback", peer=far, unit="µs", limit=0.2))
    return rows


async def nothing(request: Any, context: Any) -> bytes:
    return b""


async def latencies(
    direct: Channel, wire: Channel, method: str, request: Any, rounds: int, count: int
) -> tuple[float, float]:
    """Medians of the seconds a call takes, one call at a time, in microseconds."""
    near: list[float] = []
    far: list[float] = []
    for _ in range(rounds):
        for channel, times in ((direct, near), (wire, far)):
            stub = channel.service(SERVICE)
            times.append(await seconds_per_call(lambda: stub.unary(method, request), count) * 1e6)  # noqa: B023
    return statistics.median(near), statistics.median(far)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute")
    parser.add_argument("--serve", choices=("ours", "bare"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run(serve_ours() if options.serve == "ours" else serve_bare())
        return
    rounds, count = (15, 500) if options.quick else (151, 500)
    logger.remove()
    rows = run(throughput(rounds, count)) + run(in_process(9, 1_000))
    print_rows("rpc", rows)


if __name__ == "__main__":
    main()
