"""Callers that stall, vanish, dribble and come in crowds: the others are served as before, and memory stays bounded.

Every call of the others has a deadline, so a server that is held up fails the test; how long the calls took is told
at the end of the run.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from stigmer_grpc import connect
from stigmer_protos import descriptors
from stigmer_server.testing import Api, ServerProcess, manifest

Start = Callable[..., ServerProcess]
Rounds = Callable[..., int]
Figures = Callable[..., None]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEADLINE = 10.0
MEBIBYTE = 2**20
ALLOWED_GROWTH = 150 * MEBIBYTE
"""What a few hundred connections may cost a server: some 200 KiB each, and what the allocator keeps."""
FLOW = "document: {dsl: 1.0.0, namespace: t, name: f, version: 0.1.0}\ndo:\n  - a: {set: {b: 1}}\n"


def resident(server: ServerProcess) -> int:
    """Bytes of memory that the server's process holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def open_sockets(server: ServerProcess) -> int:
    """How many it has; a store that is busier opens more files, and keeps them."""
    found = 0
    for file in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(file.readlink()).startswith("socket:")
    return found


async def work(api: Api, calls: int) -> list[float]:
    """Create and read agents, and return how long each call took, in milliseconds."""
    took: list[float] = []
    for number in range(calls):
        agent = manifest("agent", f"agent {number} {time.time_ns()}", {"instructions": "Answer in one sentence."})
        made = ""
        for verb in ("create", "get"):
            begun = time.perf_counter()
            answer = await api("agent", verb, {"value": made} if made else agent, timeout=DEADLINE)
            took.append((time.perf_counter() - begun) * 1000)
            made = answer.metadata.id
    return took


async def begun(api: Api) -> str:
    """Return the id of an execution that waits for a runner."""
    flow = await api("workflow", "create", manifest("workflow", "flow", {"definition": FLOW}))
    execution = manifest("workflow_execution", "run", {"workflowId": flow.metadata.id})
    return (await api("workflow_execution", "create", execution)).metadata.id


async def closed(server: ServerProcess, sockets: int) -> None:
    """Wait until connections that are gone are closed on the server's side, too."""
    # grpc closes a client's connection when the last of its calls is collected, which may be long after the channel.
    gc.collect()
    async with asyncio.timeout(30):
        while open_sockets(server) > sockets + 5:  # noqa: ASYNC110 - nobody tells when another process closes a file
            await asyncio.sleep(0.05)


def p99(took: list[float]) -> str:
    return f"{statistics.quantiles(took, n=100)[98]:.1f} ms"


@asynccontextmanager
async def clients(server: ServerProcess, count: int) -> AsyncGenerator[list[Api]]:
    """Clients with a connection each."""
    async with AsyncExitStack() as stack:
        channels = [connect(server.address, pool=descriptors.pool()) for _ in range(count)]
        for channel in channels:
            await stack.enter_async_context(channel)
        yield [Api(channel) for channel in channels]


async def test_five_hundred_connections_at_once_are_served(server: Start, rounds: Rounds, figures: Figures) -> None:
    started = server()
    api = await started.ready()
    alone = await work(api, 30)
    before = resident(started)
    async with clients(started, rounds(short=150, full=500)) as crowd:
        took = await asyncio.gather(*(work(client, 2) for client in crowd))
        growth = resident(started) - before
    assert growth < ALLOWED_GROWTH
    figures(connections=len(took), p99=p99([each for some in took for each in some]), p99_alone=p99(alone))


async def test_connections_that_dribble_hold_up_nobody(server: Start, rounds: Rounds, figures: Figures) -> None:
    """Slow-loris: connections that say nothing, half a greeting, or a frame one byte at a time."""
    started = server()
    api = await started.ready()
    alone = await work(api, 30)
    before, sockets_before = resident(started), open_sockets(started)
    count = rounds(short=100, full=300)
    openings = [b"", PREFACE[:10], PREFACE, PREFACE + b"\0\0\x10\x01\x04", b"GET / HTTP/1.1\r\nHost: x\r\n"]
    sockets: list[socket.socket] = []
    try:
        for number in range(count):
            opened = socket.create_connection(("127.0.0.1", started.port), timeout=DEADLINE)
            opened.setblocking(False)
            sockets.append(opened)
            opened.send(openings[number % len(openings)])

        async def dribble() -> None:
            while True:
                for opened in sockets:
                    try:
                        opened.send(b"\0")
                    except OSError:
                        continue  # The server has closed it, as it may.
                await asyncio.sleep(0.05)

        dribbling = asyncio.create_task(dribble())
        beside = await work(api, 100)
        dribbling.cancel()
        assert resident(started) - before < ALLOWED_GROWTH
    finally:
        for opened in sockets:
            opened.close()
    await closed(started, sockets_before)
    figures(connections=count, p99=p99(beside), p99_alone=p99(alone))


async def test_subscribers_that_stop_reading_hold_up_nobody(server: Start, rounds: Rounds, figures: Figures) -> None:
    """States of some 200 KiB, for readers that never take the second one, and for one that takes all."""
    started = server()
    api = await started.ready()
    run = await begun(api)
    subscription: dict[str, Any] = {"executionId": run}
    states = rounds(short=60, full=300)

    async def follow(reader: Api) -> list[int]:
        states = reader.stream("workflow_execution", "subscribe", subscription)
        return [len(state.status.tasks) async for state in states]

    async with clients(started, rounds(short=20, full=100)) as stalled:
        streams = [client.stream("workflow_execution", "subscribe", subscription) for client in stalled]
        for stream in streams:
            await anext(stream)
        following = asyncio.create_task(follow(started.client()))
        before = resident(started)
        for number in range(states):
            # Every report is a task of 20 KiB, and the tenth of them begins anew.
            task = {
                "taskId": f"t{number % 10}",
                "taskName": f"t{number % 10}",
                "output": {"text": f"{number:06}" + "x" * 20_000},
            }
            report = {"executionId": run, "status": {"phase": "EXECUTION_IN_PROGRESS", "tasks": [task]}}
            await api("workflow_execution", "updateStatus", report, timeout=DEADLINE)
        beside = await work(api, 50)
        growth = resident(started) - before
        end = {"executionId": run, "status": {"phase": "EXECUTION_COMPLETED"}}
        await api("workflow_execution", "updateStatus", end, timeout=DEADLINE)
        async with asyncio.timeout(60):
            seen = await following
            assert seen == sorted(seen)
            assert seen[-1] == 10
            # Half of them wake up and get the last state; the other half vanish without a word.
            awake = streams[::2]
            last = [[state async for state in stream][-1] for stream in awake]
    assert {state.status.phase for state in last} == {3}
    assert growth < ALLOWED_GROWTH
    figures(stalled=len(streams), states=states, growth=f"{growth / MEBIBYTE:.0f} MiB", p99=p99(beside))


async def test_a_thousand_subscribers_that_come_and_go_leave_nothing_open(
    server: Start, rounds: Rounds, figures: Figures
) -> None:
    started = server()
    api = await started.ready()
    run = await begun(api)
    await work(api, 20)
    before, sockets_before = resident(started), open_sockets(started)
    count = rounds(short=100, full=1000)

    async def come_and_go() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", started.port)
        del reader
        writer.transport.abort()
        async with connect(started.address, pool=descriptors.pool()) as channel:
            stream = Api(channel).stream("workflow_execution", "subscribe", {"executionId": run})
            await anext(stream)

    for _ in range(count // 20):
        await asyncio.gather(*(come_and_go() for _ in range(20)))
    await closed(started, sockets_before)
    growth = resident(started) - before
    assert growth < ALLOWED_GROWTH
    figures(subscribers=count, growth=f"{growth / MEBIBYTE:.0f} MiB")
