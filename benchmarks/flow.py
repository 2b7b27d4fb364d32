"""What the flow of tasks costs: pure tasks and expressions by CPU time, loops, forks, and many runs at once.

Pure tasks are interpreted without Temporal, in CPU time of this process. All else runs on one tuned development server,
with the workers in processes of their own, and the gRPC peer and the web site in this one.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import process_time
from typing import Any

import jq
from _report import Row
from _server import most_megabytes
from _temporal import measure_and_print
from _workers import ACTIVITY_LIMIT, Plain, plain_worker, runner, untold_runner
from stigmer_dsl.expressions import evaluate
from stigmer_dsl.model import load_trusted
from stigmer_dsl.secrets import Secrets
from temporalio.client import Client
from workflow import wall_milliseconds
from workflow_runner.clock import Clock
from workflow_runner.data import Evaluator
from workflow_runner.interpreter import Interpreter
from workflow_runner.messages import Report, TaskRecord
from workflow_runner.reporter import Reporter
from workflow_runner.strands import Strands
from workflow_runner.testing import Response, RunnerProcess, Runs, Site, peer_server, site_server

TASKS = 5_000
BRANCHES = 100
CALLS = 300
LONG = 1_000
MANY, IN_A_ROW = 200, 3
SLOW_SECONDS = 0.05
_NO_SECRETS = Secrets(names=frozenset(), nonce="n")


class NoEngine:
    """An engine for what needs none: time, and nothing that waits."""

    def __init__(self) -> None:
        self.strands = Strands()
        self._now = time.time()
        self.clock = Clock(self.time)

    def time(self) -> float:
        """As in Temporal, where time stands still while a workflow computes."""
        return self._now

    def guarded(self) -> None:
        """Nothing waits here for an expression that takes long."""

    def continuation_is_due(self) -> bool:
        return False

    def show(self, record: TaskRecord) -> None:
        pass


async def _nowhere(report: Report) -> None:
    pass


def interpreter() -> Interpreter:
    loop = {"for": {"in": f"[range({TASKS})]"}, "do": [{"add": {"set": {"n": "${ .n + 1 }", "text": "fixed"}}}]}
    document = {"dsl": "1.0.0", "namespace": "test", "name": "test", "version": "1.0.0"}
    definition: dict[str, Any] = {"document": document, "do": [{"loop": loop}]}
    limits: Any = {"max_backward_jumps": 0, "max_history_events": 0, "call_seconds": 1}
    evaluator = Evaluator(
        execution_id="x", definition=definition, raw={}, started_at=0, secrets=_NO_SECRETS, mode="strict"
    )
    engine: Any = NoEngine()
    return Interpreter(
        workflow=load_trusted(definition),
        limits=limits,
        evaluator=evaluator,
        engine=engine,
        reporter=Reporter("x", _nowhere),
    )


async def pure_tasks(rounds: int) -> Row:
    async def once() -> float:
        made = interpreter()
        begun = process_time()
        await made.execute(data={"n": 0}, frame=None)
        return TASKS / (process_time() - begun)

    await once()
    rate = statistics.median([await once() for _ in range(rounds)])
    return Row(
        name="set tasks a second of CPU",
        ours=rate,
        peer_name="asked for",
        peer=20_000,
        unit="1/s",
        limit=1,
        at_least=True,
    )


def expressions(rounds: int) -> Row:
    data = {"n": 3, "name": "x" * 200}
    program: Any = jq.compile(".n + 1")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - untyped

    def once(work: Callable[[], Any]) -> float:
        begun = process_time()
        for _ in range(TASKS):
            work()
        return (process_time() - begun) / TASKS * 1e6

    times = [
        (
            once(lambda: evaluate("${ .n + 1 }", data, {}, secrets=_NO_SECRETS, mode="strict")),
            once(lambda: program.input_value(data).first()),
        )
        for _ in range(rounds)
    ]
    return Row(
        name="an expression",
        ours=statistics.median(ours for ours, _ in times),
        peer_name="jq alone",
        peer=statistics.median(theirs for _, theirs in times),
        unit="µs",
        limit=3,
    )


def _call(url: str) -> str:
    return f"{{call: http, with: {{method: get, endpoint: {url}}}}}"


def in_sequence(url: str, count: int) -> str:
    return "do:\n" + "\n".join(f"- c{index}: {_call(url)}" for index in range(count))


def side_by_side(url: str, count: int) -> str:
    branches = "\n".join(f"      - c{index}: {_call(url)}" for index in range(count))
    return f"do:\n- f:\n    fork:\n      branches:\n{branches}"


async def of(runs: Runs, document: str, data: Any = None) -> float:
    """How many milliseconds a run takes."""

    async def once() -> None:
        await (await runs.start(runs.add(document, data))).result()

    return await wall_milliseconds(once)


async def measured(runs: Runs, site: Site, rounds: int) -> list[Row]:
    async def slow(_: Any) -> Response:
        await asyncio.sleep(SLOW_SECONDS)
        return Response({"ok": True})

    site.page("/slow", slow)
    url = f"{site.url}/slow"
    loop = "do:\n- l: {for: {in: '[range(1000)]'}, do: [{s: {set: {n: '${ .n + 1 }'}}}]}"
    await of(runs, loop, {"n": 0})
    loops = statistics.median([await of(runs, loop, {"n": 0}) for _ in range(rounds)])
    # The sequence has one connection, which the calls before it have made; the fork's hundred are made here.
    await of(runs, side_by_side(url, BRANCHES))
    sequence = await of(runs, in_sequence(url, BRANCHES))
    fork = statistics.median([await of(runs, side_by_side(url, BRANCHES)) for _ in range(rounds)])
    return [
        Row(name="a loop of 1,000 set tasks", ours=loops, peer_name="asked for", peer=2000, unit="ms", limit=1),
        Row(
            name=f"{BRANCHES} GETs of {SLOW_SECONDS * 1000:g} ms in sequence",
            ours=sequence,
            peer_name="the same in a fork",
            peer=fork,
            unit="ms",
            limit=10,
            at_least=True,
        ),
    ]


async def sequences(runs: Runs, plain: Plain, site: Site) -> list[Row]:
    """A thousand calls one after the other, by themselves and beside plain activities."""
    url = f"{site.url}/pet"
    times = [
        (await wall_milliseconds(lambda: plain(url, LONG)) / LONG, await of(runs, in_sequence(url, LONG)) / LONG)
        for _ in range(2)
    ]
    theirs, ours = (min(column) for column in zip(*times, strict=True))
    name = f"each of {LONG:,} GETs in sequence"
    return [
        Row(name=name, ours=ours, peer_name="asked for", peer=8, unit="ms", limit=1),
        Row(
            name=f"each of {LONG:,} plain activities",
            ours=theirs,
            peer_name="GET of a workflow",
            peer=ours,
            unit="ms",
            limit=2.5,
            at_least=True,
        ),
    ]


async def reporting(told: Runs, untold: Runs, site: Site, rounds: int) -> Row:
    """What it costs that the server is told of each task, beside runs whose tasks nobody hears of."""
    document = in_sequence(f"{site.url}/pet", CALLS)
    times: dict[Runs, list[float]] = {told: [], untold: []}
    for runs in times:
        await of(runs, document)  # what only a first run does is counted for neither
    for number in range(max(rounds, 4)):
        # The other way round each time, lest one of them always has the machine as the other left it.
        for runs in times if number % 2 else reversed(times):
            times[runs].append(await of(runs, document))
    return Row(
        name=f"{CALLS} GETs in sequence, reported",
        ours=min(times[told]),
        peer_name="the same, unreported",
        peer=min(times[untold]),
        unit="ms",
        limit=1.1,
    )


async def many_runs(runs: Runs, plain: Plain, site: Site) -> Row:
    """What a run takes while 200 others are in progress: each that ends is followed by the next.

    Ours come first, on a server at rest.
    """
    url = f"{site.url}/pet"
    document = in_sequence(url, 5)

    async def each_of(once: Callable[[], Awaitable[Any]]) -> float:
        async def lane() -> None:
            for _ in range(IN_A_ROW):
                await once()

        async def crowd() -> None:
            await asyncio.gather(*(lane() for _ in range(MANY)))

        return await wall_milliseconds(crowd) / MANY / IN_A_ROW

    async def both() -> tuple[float, float]:
        # Temporal keeps the timeouts of plain activities until they would be reached, and works at them then.
        await asyncio.sleep(ACTIVITY_LIMIT.total_seconds() + 2)
        return await each_of(lambda: of(runs, document)), await each_of(lambda: plain(url, 5))

    ours, theirs = (min(column) for column in zip(*[await both() for _ in range(3)], strict=True))
    return Row(
        name=f"a run of 5 plain activities, {MANY} at a time",
        ours=theirs,
        peer_name=f"a run of 5 GETs, {MANY} at a time",
        peer=ours,
        unit="ms",
        limit=2,
        at_least=True,
    )


async def memory(runs: Runs, worker: RunnerProcess) -> Row:
    """What the worker holds at most, after a run of 10,000 tasks and before it."""
    loop = "do:\n- l: {for: {in: '[range(COUNT)]'}, do: [{s: {set: {n: '${ .n + 1 }'}}}]}"
    await of(runs, loop.replace("COUNT", "1000"), {"n": 0})
    before = most_megabytes(worker.process.pid)
    await of(runs, loop.replace("COUNT", "10000"), {"n": 0})
    after = most_megabytes(worker.process.pid)
    return Row(name="memory after 10,000 tasks", ours=after, peer_name="before", peer=before, unit="MiB", limit=1.15)


async def measure(_: Path, address: str, rounds: int) -> list[Row]:
    rows = [await pure_tasks(rounds), expressions(rounds)]
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(peer_server())
        site = await stack.enter_async_context(site_server())
        site.page("/pet", {"name": "Rex", "age": 3})
        client = await Client.connect(address)
        runs, untold = (Runs(client, peer, f"ours-{uuid.uuid4().hex}") for _ in range(2))
        worker = await stack.enter_async_context(runner(runs, address))
        flat = await memory(runs, worker)
        async with untold_runner(untold, address):
            reported = await reporting(runs, untold, site, rounds)
        async with plain_worker(client, address) as plain:
            beside = [*await sequences(runs, plain, site), await many_runs(runs, plain, site)]
        rows += [*await measured(runs, site, rounds), *beside, reported, flat]
    return rows


if __name__ == "__main__":
    sys.exit(measure_and_print("flow", __doc__, measure, quick=2, full=7))
