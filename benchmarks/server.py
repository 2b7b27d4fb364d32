"""What a stigmer-server costs on top of bare grpc.aio, and what it costs with much in it.

The server is the real one, a process of its own with its database in a temporary folder and no Temporal. Its peer is
a bare grpc.aio server on uvloop that answers the same requests with the same bytes and does nothing. Both are called
by the same client, round by round in turn. Every create is validated, sealed, and on disk before it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import _server
import grpc
import grpc.aio
from _report import Row, print_rows
from _server import (
    BARE_FOLLOW,
    BARE_TELL,
    COMMIT_SECONDS,
    MINIMAL,
    Call,
    Client,
    bare,
    batches,
    cpu_seconds,
    create,
    long_run,
    ours,
    path_of,
    report,
    resident_megabytes,
    resource,
    serve_bare,
)
from stigmer_grpc import run
from stigmer_protos.descriptors import kind_by_name, message_type
from stigmer_server.parts import Divided
from stigmer_server.testing import Api, serve
from stigmer_server.unit import record_of
from stigmer_sqlite import Archive, Transaction

CONCURRENCY = 50
CREATORS = 32
CONNECTIONS = 20
BARE = "bare grpc.aio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    calls: int
    listed: int
    followers: int
    stored: int
    """How many resources the server has stored when its start and its memory are measured."""


QUICK = Size(rounds=5, calls=1_000, listed=2_000, followers=1_000, stored=5_000)
FULL = Size(rounds=15, calls=2_000, listed=10_000, followers=1_000, stored=100_000)


async def rate(call: Call, count: int, concurrency: int = CONCURRENCY) -> tuple[float, list[float]]:
    """Calls a second with so many callers at once, and how long each call took."""
    times: list[float] = []

    async def loop() -> None:
        for _ in range(count // concurrency):
            started = perf_counter()
            await call()
            times.append(perf_counter() - started)

    started = perf_counter()
    await asyncio.gather(*(loop() for _ in range(concurrency)))
    return len(times) / (perf_counter() - started), times


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What calls of one name came to."""

    rates: list[float]
    """Calls a second, round by round."""
    slow: float
    """99th percentile of the milliseconds of a call."""
    cpu: list[float]
    """Microseconds of processor time that the server spent on a call, round by round."""


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
        name: Measured(rates=rates[name], slow=statistics.quantiles(times[name], n=100)[98] * 1e3, cpu=spent[name])
        for name in calls
    }


def beside(values: list[float], peer: list[float]) -> float:
    """The peer's median times the median of the rounds' ratios, so that what else the machine does weighs on both."""
    return statistics.median(peer) * statistics.median(a / b for a, b in zip(values, peer, strict=True))


async def calls(size: Size) -> list[Row]:
    """Small calls beside the same calls of the peer."""
    async with AsyncExitStack() as stack:
        async with ours():
            pass  # The first start after a change compiles what it imports, and keeps memory of it.
        process = await stack.enter_async_context(ours())
        pid = process.process.pid
        server: Any = await stack.enter_async_context(grpc.aio.insecure_channel(process.address))
        bare_address, bare_pid = await stack.enter_async_context(bare(Path(__file__)))
        peer: Any = await stack.enter_async_context(grpc.aio.insecure_channel(bare_address))
        await asyncio.sleep(3)
        idle = resident_megabytes(pid)
        api, echo = Client(server), Client(peer)
        numbers = itertools.count()
        stored = await create(api, "agent", "read")
        first = await create(api, "agent_execution", "first", agent_id=stored.metadata.id)
        for names in batches(size.listed, 500):
            made = (create(api, "agent_execution", f"run {n}", session_id=first.spec.session_id) for n in names)
            await asyncio.gather(*made)
        page = list_request(first.spec.session_id)
        page_bytes = await api("agent_execution", "listBySession", page)
        by_id = message_type("ai.stigmer.agentic.agent.v1.AgentId")(value=stored.metadata.id).SerializeToString()
        applied = resource("agent", "read").SerializeToString()
        running = report(first.metadata.id)
        running.status.messages.add(type=2, content="I am reading the commits. " * 20)
        reported = running.SerializeToString()

        def creation(kind: str) -> tuple[Call, int]:
            return lambda: api(kind, "create", resource(kind, f"made {next(numbers)}").SerializeToString()), pid

        def answer(raw: bytes) -> tuple[Call, int]:
            return lambda: echo("agent", "create", raw), bare_pid

        found = await in_turn(
            {
                "get": (lambda: api("agent", "get", by_id), pid),
                "get, peer": answer(stored.SerializeToString()),
                "create": creation("environment"),
                "create, peer": answer(resource("environment", "made 100000").SerializeToString()),
                "create two": creation("agent"),
                "apply": (lambda: api("agent", "apply", applied), pid),
                "apply, peer": answer(applied),
                "list": (lambda: api("agent_execution", "listBySession", page), pid),
                "list, peer": answer(page_bytes),
                "report": (lambda: api("agent_execution", "updateStatus", reported), pid),
                "report, peer": answer(reported),
            },
            size.rounds,
            size.calls,
        )
        shared = await creators(creation("environment"), size)
    return [
        *rate_rows(found, size.listed),
        *shared,
        await slow_disk(size),
        *cost_rows(found),
        memory_row("when idle", idle),
    ]


async def creators(creation: tuple[Call, int], size: Size) -> list[Row]:
    """Many creators at once, whose creates share commits, beside one, each of whose creates is a commit of its own."""
    call, pid = creation
    rates: dict[int, list[float]] = {CREATORS: [], 1: []}
    spent: dict[int, list[float]] = {CREATORS: [], 1: []}
    for _ in range(size.rounds):
        for callers, count in ((CREATORS, size.calls), (1, size.calls // 5)):
            before = cpu_seconds(pid)
            measured, each = await rate(call, count, callers)
            rates[callers].append(measured)
            spent[callers].append((cpu_seconds(pid) - before) / len(each) * 1e6)
    return [
        creators_row("durable creates", rates, "calls/s", 5, at_least=True),
        creators_row("server CPU a create", spent, "µs", 0.67, at_least=False),
    ]


def creators_row(name: str, values: dict[int, list[float]], unit: str, limit: float, *, at_least: bool) -> Row:
    many, alone = values[CREATORS], values[1]
    return Row(name=f"{name}, {CREATORS} creators", ours=beside(many, alone), peer_name="one creator",
               peer=statistics.median(alone), unit=unit, limit=limit, at_least=at_least)  # fmt: skip


async def slow_disk(size: Size) -> Row:
    """The same creators on a disk whose commits take as long as those of a network disk: what sharing them is for."""
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(ours(command=(_server.__file__,)))
        api = Client(await stack.enter_async_context(grpc.aio.insecure_channel(process.address)))
        numbers = itertools.count()

        async def create_one() -> Any:
            return await api(
                "environment", "create", resource("environment", f"made {next(numbers)}").SerializeToString()
            )

        rates: dict[int, list[float]] = {CREATORS: [], 1: []}
        await rate(create_one, size.calls, CREATORS)
        for _ in range(size.rounds):
            for callers, count in ((CREATORS, size.calls), (1, size.calls // 5)):
                rates[callers].append((await rate(create_one, count, callers))[0])
    name = f"the same, {COMMIT_SECONDS * 1000:g} ms more a commit"
    return creators_row(name, rates, "calls/s", 5, at_least=True)


def rate_rows(found: dict[str, Measured], listed: int) -> list[Row]:
    def row(name: str, key: str, limit: float, peer: str = "") -> Row:
        ours, theirs = found[key].rates, found[peer or f"{key}, peer"].rates
        return Row(
            name=name,
            ours=beside(ours, theirs),
            peer_name=BARE,
            peer=statistics.median(theirs),
            unit="calls/s",
            limit=limit,
            at_least=True,
        )

    return [
        row("get of an agent, 1 kB", "get", 0.7),
        row("durable create of an environment, 1 kB", "create", 0.4),
        row("durable create of an agent and its instance", "create two", 0.25, "create, peer"),
        row("apply of an agent that is there, 1 kB", "apply", 0.5),
        row(f"list 20 of {listed:,}", "list", 0.3),
        row("durable report on one execution", "report", 0.35),
    ]


def cost_rows(found: dict[str, Measured]) -> list[Row]:
    """What calls cost the server, and how long the slowest take; the peer's times tell how busy the machine is."""

    def cost(name: str, key: str, limit: float) -> Row:
        ours, theirs = found[key].cpu, found[f"{key}, peer"].cpu
        peer = statistics.median(theirs)
        return Row(name=name, ours=beside(ours, theirs), peer_name=BARE, peer=peer, unit="µs", limit=limit)

    def slow(name: str, key: str, limit: float) -> Row:
        ours, theirs = found[key].slow, found[f"{key}, peer"].slow
        return Row(name=name, ours=ours, peer_name=BARE, peer=theirs, unit="ms", limit=limit)

    return [
        cost("get, server CPU a call", "get", 1.67),
        cost("create, server CPU a call", "create", 3.33),
        slow("get, 99th percentile, 50 callers", "get", 2.0),
        slow("create, 99th percentile, 50 callers", "create", 10.0),
    ]


def memory_row(name: str, megabytes: float) -> Row:
    return Row(name=f"memory {name}", ours=megabytes, peer_name="promise", peer=120, unit="MiB", limit=1.0)


def list_request(session_id: str) -> bytes:
    request = message_type("ai.stigmer.agentic.agentexecution.v1.ListAgentExecutionsBySessionRequest")
    return request(session_id=session_id, page_size=20).SerializeToString()


async def long_runs(size: Size) -> list[Row]:
    """A durable report on one task of an execution with a thousand tasks, beside the same on one with ten."""
    async with ours() as process, grpc.aio.insecure_channel(process.address) as channel:
        api = Client(channel)
        workflow = await create(api, "workflow", "long")
        runs = {tasks: await long_run(api, workflow.metadata.id, f"{tasks} tasks", tasks) for tasks in (10, 1_024)}
        seconds: dict[tuple[int, bool], list[float]] = {}
        for _ in range(size.rounds):
            for tasks, run_id in runs.items():
                request = report(run_id, "workflow_execution")
                request.status.tasks.add(task_id="/do/7/step", task_name="step 7", status=2)
                raw = request.SerializeToString()
                for metadata in (MINIMAL, None):
                    call = lambda raw=raw, metadata=metadata: api("workflow_execution", "updateStatus", raw, metadata)  # noqa: E731
                    taken = 1 / (await rate(call, 20, 1))[0]
                    seconds.setdefault((tasks, metadata is None), []).append(taken * 1e3)

    def row(name: str, limit: float, *, whole: bool) -> Row:
        large, small = seconds[1_024, whole], seconds[10, whole]
        peer = statistics.median(small)
        return Row(name=name, ours=beside(large, small), peer_name="of 10 KiB", peer=peer, unit="ms", limit=limit)

    return [
        row("report on an execution of 1 MiB", 3.0, whole=False),
        row("the same, answered with all of it", 6.0, whole=True),
    ]


async def fan_out(size: Size) -> list[Row]:
    """From the sending of a report to the state at the median follower, over TCP: the commit is part of it."""
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(ours())
        address, _ = await stack.enter_async_context(bare(Path(__file__)))
        api = Client(await stack.enter_async_context(grpc.aio.insecure_channel(process.address)))
        peer = Client(await stack.enter_async_context(grpc.aio.insecure_channel(address)))
        agent = await create(api, "agent", "followed")
        execution = await create(api, "agent_execution", "followed", agent_id=agent.metadata.id)
        id_type = message_type("ai.stigmer.agentic.agentexecution.v1.AgentExecutionId")
        followed = id_type(value=execution.metadata.id).SerializeToString()
        state = execution.SerializeToString()
        tell = peer.channel.unary_unary(BARE_TELL)
        numbers = itertools.count()

        async def reported() -> None:
            request = report(execution.metadata.id)
            request.status.error = f"{next(numbers)}"
            await api("agent_execution", "updateStatus", request.SerializeToString(), MINIMAL)

        path = path_of("agent_execution", "subscribe")
        mine = await stack.enter_async_context(Crowd(process.address, path, followed, size.followers))
        theirs = await stack.enter_async_context(Crowd(address, BARE_FOLLOW, state, size.followers))
        medians: list[list[float]] = [[], []]
        for _ in range(max(size.rounds, 9)):
            medians[0].append(await mine.told(reported))
            medians[1].append(await theirs.told(lambda: tell(state)))
    ours_ms = beside(*medians)
    name = f"state at the median of {size.followers:,} followers"
    bare_ms = statistics.median(medians[1])
    return [
        Row(name=name, ours=ours_ms, peer_name=BARE, peer=bare_ms, unit="ms", limit=2.0),
        Row(name=name, ours=statistics.median(medians[0]), peer_name="promise", peer=50, unit="ms", limit=1.0),
    ]


class Crowd:
    """Followers of one execution, over a few connections."""

    def __init__(self, address: str, path: str, request: bytes, count: int) -> None:
        own: Any = (("grpc.use_local_subchannel_pool", 1),)
        self._channels: list[Any] = [grpc.aio.insecure_channel(address, options=own) for _ in range(CONNECTIONS)]
        self._streams: list[Any] = [self._channels[n % CONNECTIONS].unary_stream(path)(request) for n in range(count)]
        self._times: list[float] = []
        self._all_told = asyncio.Event()
        self._readers = [asyncio.create_task(self._read(stream)) for stream in self._streams]

    async def __aenter__(self) -> Crowd:
        await asyncio.wait_for(self._all_told.wait(), 60)
        return self

    async def __aexit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def told(self, tell: Call) -> float:
        """Milliseconds until half of them have the next state; returns when all have it."""
        self._times.clear()
        self._all_told.clear()
        begun = perf_counter()
        await tell()
        await asyncio.wait_for(self._all_told.wait(), 60)
        return (statistics.median(self._times) - begun) * 1e3

    async def _read(self, stream: Any) -> None:
        async for _ in stream:
            self._times.append(perf_counter())
            if len(self._times) == len(self._streams):
                self._all_told.set()


async def much_stored(size: Size) -> list[Row]:
    """How soon a server with much in it answers, and what memory it takes to store more."""
    with TemporaryDirectory() as empty, TemporaryDirectory() as name:
        folder = Path(name)
        await fill(folder, size.stored)
        starts, starts_empty = await ready(folder), await ready(Path(empty))
        async with ours(folder) as process, grpc.aio.insecure_channel(process.address) as channel:
            api, numbers = Client(channel), itertools.count()

            async def make() -> None:
                await api("environment", "create", resource("environment", f"more {next(numbers)}").SerializeToString())

            # Caches fill first, up to their bounds.
            await rate(make, size.stored // 2)
            before = resident_megabytes(process.process.pid)
            await rate(make, size.stored)
            after = resident_megabytes(process.process.pid)
    stored = f"{size.stored:,}"
    (seconds, spent), (_, peer) = starts, starts_empty
    return [
        Row(name=f"ready with {stored} resources", ours=seconds, peer_name="promise", peer=1, unit="s", limit=1.0),
        Row(name=f"CPU until ready with {stored} resources", ours=spent, peer_name="with none", peer=peer, unit="s",
            limit=1.25),
        Row(name=f"memory after {stored} more", ours=after, peer_name="before", peer=before, unit="MiB", limit=1.1),
    ]  # fmt: skip


async def ready(folder: Path) -> tuple[float, float]:
    """Seconds until a server on the files of the folder serves, and of processor time, medians of several starts."""
    seconds: list[float] = []
    spent: list[float] = []
    for _ in range(5):
        async with ours(folder) as process:
            seconds.append(process.ready_seconds)
            spent.append(cpu_seconds(process.process.pid))
    return statistics.median(seconds), statistics.median(spent)


async def fill(folder: Path, count: int) -> None:
    """Store so many resources: environments, and as many executions that have ended."""
    async with serve(folder) as api:
        await store_many(api, await api("environment", "create", resource("environment", "stored")), count // 2)
        agent = await api("agent", "create", resource("agent", "owner"))
        execution = resource("agent_execution", "stored")
        execution.spec.agent_id = agent.metadata.id
        ended = report((await api("agent_execution", "create", execution)).metadata.id)
        ended.status.phase = 3
        await store_many(api, await api("agent_execution", "updateStatus", ended), count // 2)


async def store_many(api: Api, made: Any, count: int) -> None:
    """Store so many resources like the one that was made, as the server does, a thousand at once."""
    described = kind_by_name(made.kind)
    store, kind = api.app.resources.store, api.app.resources.kinds[described.enum_name]
    for numbers in batches(count, 1_000):

        def work(transaction: Transaction, numbers: range = numbers) -> None:
            for number in numbers:
                made.metadata.id, made.metadata.slug = f"{described.id_prefix}-{number:026d}", f"stored-{number + 1}"
                transaction.save(record_of(kind, Divided(head=made)), archive=Archive(event="created", tag="1"))

        await store.transact(work)


async def deletions(size: Size) -> list[Row]:
    """What it takes to know that nobody names a resource, with many there who might."""

    async def deletion(name: str) -> float:
        made = await api("environment", "create", resource("environment", name))
        started = perf_counter()
        await api("environment", "delete", {"resourceId": made.metadata.id})
        return (perf_counter() - started) * 1e3

    with TemporaryDirectory() as folder:
        async with serve(Path(folder)) as api:
            agent = await api("agent", "create", resource("agent", "owner"))
            alone = [await deletion(f"alone {number}") for number in range(20)]
            instance = resource("agent_instance", "stored 0")
            instance.spec.agent_id = agent.metadata.id
            instance.spec.environment_refs.add(kind=53, slug="kept")
            await store_many(api, await api("agent_instance", "create", instance), size.stored)
            among = [await deletion(f"among {number}") for number in range(20)]
    name = f"deletion beside {size.stored:,} instances"
    return [Row(name=name, ours=statistics.median(among), peer_name="beside none", peer=statistics.median(alone),
                unit="ms", limit=2.0)]  # fmt: skip


async def measure(size: Size) -> list[Row]:
    rows: list[Row] = []
    for part in (calls, long_runs, fan_out, much_stored, deletions):
        rows += await part(size)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of many")
    parser.add_argument("--serve-bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_bare:
        run(serve_bare())
        return
    print_rows("server", run(measure(QUICK if options.quick else FULL)))


if __name__ == "__main__":
    main()
