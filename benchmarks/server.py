"""What a stigmer-server costs on top of bare grpc.aio: reads, durable writes, lists, reports and streams.

The server is the real one, a process of its own with its database in a temporary folder and no Temporal. Its peer is
a bare grpc.aio server on uvloop that answers the same requests with the same bytes and does nothing. Both are called
by the same client, round by round in turn. Every create is validated, sealed, and on disk before it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
from _report import Row, print_rows
from stigmer_grpc import run
from stigmer_protos.descriptors import kind_by_enum_name, message_type, pool

CONCURRENCY = 50
BARE = "bare grpc.aio"
Call = Callable[[], Awaitable[Any]]


class Answers(grpc.GenericRpcHandler):
    """Answers every call with the bytes that came with it."""

    def service(self, handler_call_details: Any) -> Any:
        untyped: Any = grpc
        return untyped.unary_unary_rpc_method_handler(self._echo)

    @staticmethod
    async def _echo(request: Any, context: Any) -> Any:
        return request


async def serve_bare() -> None:
    server: Any = grpc.aio.server(handlers=(Answers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


@asynccontextmanager
async def bare() -> AsyncGenerator[tuple[str, int]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__)), "--serve-bare"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip(), process.pid
    process.stdin.close()
    await process.wait()


@asynccontextmanager
async def ours() -> AsyncGenerator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        port, nowhere = free_port(), free_port()
        variables = {
            "GRPC_PORT": str(port),
            "DB_PATH": f"{folder}/stigmer.db",
            "STORAGE_PATH": f"{folder}/storage",
            "TEMPORAL_HOST_PORT": f"127.0.0.1:{nowhere}",
            "LOG_LEVEL": "error",
        }
        command = (sys.executable, "-m", "stigmer_server")
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **variables})
        yield f"127.0.0.1:{port}", process.pid
        process.terminate()
        await process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def resource(kind: str, name: str) -> Any:
    """A resource of about a kilobyte."""
    described = kind_by_enum_name(kind)
    message: Any = message_type(described.message)()
    message.api_version, message.kind = described.api_version, described.name
    message.metadata.name, message.metadata.org = name, "local"
    message.metadata.owner_scope = 2
    text = "Read the commits since the last tag and write release notes for people. " * 12
    if kind == "agent":
        message.spec.instructions = text
    else:
        message.spec.description = text
        message.spec.data["REGION"].value = "eu-west-1"
    return message


class Client:
    """Raw calls over one connection."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._methods: dict[str, Any] = {}

    async def __call__(self, kind: str, verb: str, request: bytes) -> bytes:
        method = self._methods.get(kind + verb)
        if method is None:
            services = kind_by_enum_name(kind).services
            (name,) = (name for name in services if verb in pool().FindServiceByName(name).methods_by_name)
            method = self._methods[kind + verb] = self._channel.unary_unary(f"/{name}/{verb}")
        return await method(request)


async def rate(call: Call, count: int) -> tuple[float, list[float]]:
    """Calls a second with fifty callers at once, and how long each call took."""
    times: list[float] = []

    async def loop() -> None:
        for _ in range(count // CONCURRENCY):
            started = perf_counter()
            await call()
            times.append(perf_counter() - started)

    started = perf_counter()
    await asyncio.gather(*(loop() for _ in range(CONCURRENCY)))
    return len(times) / (perf_counter() - started), times


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What calls of one name came to."""

    rate: float
    """Median calls a second."""
    slow: float
    """99th percentile of the milliseconds of a call."""
    cpu: float
    """Median microseconds of processor time that the server spent on a call."""


async def in_turn(calls: dict[str, tuple[Call, int]], rounds: int, count: int) -> dict[str, Measured]:
    """Make every call in turn, round by round, against the server with the process id beside it."""
    rates: dict[str, list[float]] = {name: [] for name in calls}
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call, _ in calls.values():
        await rate(call, count)
    for _ in range(rounds):
        for name, (call, pid) in calls.items():
            before = cpu_seconds(pid)
            measured, each = await rate(call, count)
            spent[name].append((cpu_seconds(pid) - before) / len(each) * 1e6)
            rates[name].append(measured)
            times[name] += each
    return {
        name: Measured(
            rate=statistics.median(rates[name]),
            slow=statistics.quantiles(times[name], n=100)[98] * 1e3,
            cpu=statistics.median(spent[name]),
        )
        for name in calls
    }


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(rounds: int, count: int, listed: int) -> list[Row]:
    async with AsyncExitStack() as stack:
        address, pid = await stack.enter_async_context(ours())
        server: Any = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        bare_address, bare_pid = await stack.enter_async_context(bare())
        peer: Any = await stack.enter_async_context(grpc.aio.insecure_channel(bare_address))
        await asyncio.wait_for(server.channel_ready(), 30)
        idle = resident_megabytes(pid)
        api, echo = Client(server), Client(peer)
        numbers = itertools.count()
        agent = resource("agent", "read").SerializeToString()
        stored: Any = message_type(kind_by_enum_name("agent").message).FromString(await api("agent", "create", agent))
        run_id, session_id = await first_run(api, stored.metadata.id)
        await fill(api, session_id, listed)
        page = list_request(session_id)
        page_bytes = await api("agent_execution", "listBySession", page)
        by_id = message_type("ai.stigmer.agentic.agent.v1.AgentId")(value=stored.metadata.id).SerializeToString()

        def create(kind: str) -> tuple[Call, int]:
            return lambda: api(kind, "create", resource(kind, f"made {next(numbers)}").SerializeToString()), pid

        def answer(raw: bytes) -> tuple[Call, int]:
            return lambda: echo("agent", "create", raw), bare_pid

        made = resource("environment", "made 100000").SerializeToString()
        calls: dict[str, tuple[Call, int]] = {
            "get": (lambda: api("agent", "get", by_id), pid),
            "get, peer": answer(stored.SerializeToString()),
            "create": create("environment"),
            "create, peer": answer(made),
            "create two": create("agent"),
            "list": (lambda: api("agent_execution", "listBySession", page), pid),
            "list, peer": answer(page_bytes),
            "report": (lambda: api("agent_execution", "updateStatus", report(run_id)), pid),
            "report, peer": answer(report(run_id)),
        }
        found = await in_turn(calls, rounds, count)
    return [*rate_rows(found, listed), *latency_rows(found), *cpu_rows(found), memory_row(idle)]


def rate_rows(found: dict[str, Measured], listed: int) -> list[Row]:
    def row(name: str, key: str, limit: float, peer: str = "") -> Row:
        ours, theirs = found[key].rate, found[peer or f"{key}, peer"].rate
        return Row(name=name, ours=ours, peer_name=BARE, peer=theirs, unit="calls/s", limit=limit, at_least=True)

    return [
        row("get of an agent, 1 kB", "get", 0.6),
        row("durable create of an environment, 1 kB", "create", 0.3),
        row("durable create of an agent and its instance", "create two", 0.15, "create, peer"),
        row(f"list 20 of {listed:,}", "list", 0.15),
        row("durable report on one execution", "report", 0.25),
    ]


def cpu_rows(found: dict[str, Measured]) -> list[Row]:
    """What a call costs the server, which is hardly disturbed by what else the machine does."""

    def row(name: str, key: str, limit: float) -> Row:
        ours, theirs = found[key].cpu, found[f"{key}, peer"].cpu
        return Row(name=name, ours=ours, peer_name=BARE, peer=theirs, unit="µs", limit=limit)

    return [row("get, server CPU a call", "get", 1.67), row("create, server CPU a call", "create", 3.33)]


def latency_rows(found: dict[str, Measured]) -> list[Row]:
    """Times under load, of which those of the bare server say how busy the machine itself is."""

    def row(name: str, key: str, limit: float) -> Row:
        ours, theirs = found[key].slow, found[f"{key}, peer"].slow
        return Row(name=name, ours=ours, peer_name=BARE, peer=theirs, unit="ms", limit=limit)

    return [
        row("get, 99th percentile, 50 callers", "get", 2.0),
        row("create, 99th percentile, 50 callers", "create", 10.0),
    ]


def memory_row(idle: float) -> Row:
    return Row(name="memory when idle", ours=idle, peer_name="promise", peer=100, unit="MB", limit=1.0)


async def first_run(api: Client, agent: str) -> tuple[str, str]:
    execution = await run_of(api, "first", agent_id=agent)
    return execution.metadata.id, execution.spec.session_id


async def run_of(api: Client, name: str, **spec: str) -> Any:
    described = kind_by_enum_name("agent_execution")
    message: Any = message_type(described.message)()
    message.api_version, message.kind = described.api_version, described.name
    message.metadata.name = name
    message.spec.message = "Write the notes."
    for field, value in spec.items():
        setattr(message.spec, field, value)
    answer = await api("agent_execution", "create", message.SerializeToString())
    message.ParseFromString(answer)
    return message


async def fill(api: Client, session_id: str, count: int) -> None:
    for start in range(0, count, 500):
        names = (f"run {number}" for number in range(start, min(start + 500, count)))
        await asyncio.gather(*(run_of(api, name, session_id=session_id) for name in names))


def list_request(session_id: str) -> bytes:
    request = message_type("ai.stigmer.agentic.agentexecution.v1.ListAgentExecutionsBySessionRequest")
    return request(session_id=session_id, page_size=20).SerializeToString()


def report(execution_id: str) -> bytes:
    request: Any = message_type("ai.stigmer.agentic.agentexecution.v1.AgentExecutionUpdateStatusInput")()
    request.execution_id = execution_id
    request.status.phase = 2
    request.status.messages.add(type=2, content="I am reading the commits. " * 20)
    return request.SerializeToString()


def resident_megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half a minute instead of several")
    parser.add_argument("--serve-bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_bare:
        run(serve_bare())
        return
    rounds, count, listed = (3, 1_000, 2_000) if options.quick else (15, 2_000, 10_000)
    print_rows("server", run(measure(rounds, count, listed)))


if __name__ == "__main__":
    main()
