"""What the interpreter costs: many pure tasks against one, calls against plain activities that do the same, and what
small values pay for the way that large ones take.

All run on one tuned development server, with the workers in processes of their own, and the gRPC peer and the web site
in this one. Times of the first are Temporal's own, from the start of a run to its end; the second is what a caller
waits.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from _report import Row
from _temporal import measure_and_print
from _workers import plain_worker, runner
from temporalio.client import Client
from workflow_runner.testing import Runs, Site, peer_server, site_server

TASKS = 100
PURE_LIMIT = 1.5
CALLS_LIMIT = 2.5
CLAIM_LIMIT = 1.05


def pure(count: int) -> str:
    tasks = [f"- step{index}: {{set: {{n: '${{ .n + 1 }}', text: fixed}}}}" for index in range(count)]
    return "\n".join(["do:", *tasks])


def calls(url: str) -> str:
    tasks = [f"- call{index}: {{call: http, with: {{method: get, endpoint: {url}}}}}" for index in range(TASKS)]
    return "\n".join(["do:", *tasks])


async def workflow_milliseconds(runs: Runs, definition: str) -> float:
    """The time of one run by Temporal's clock."""
    execution = runs.add(definition, {"n": 0})
    handle = await runs.start(execution)
    await handle.result()
    described = await handle.describe()
    assert described.close_time is not None
    return (described.close_time - described.start_time).total_seconds() * 1000


async def wall_milliseconds(make: Callable[[], Awaitable[Any]]) -> float:
    begun = perf_counter()
    await make()
    return (perf_counter() - begun) * 1000


async def measure(_: Path, address: str, rounds: int) -> list[Row]:
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(peer_server())
        site = await stack.enter_async_context(site_server())
        site.page("/pet", {"name": "Rex", "age": 3})
        client = await Client.connect(address)
        runs, claiming = (Runs(client, peer, f"ours-{uuid.uuid4().hex}") for _ in range(2))
        blobs = stack.enter_context(tempfile.TemporaryDirectory())
        await stack.enter_async_context(runner(runs, address))
        await stack.enter_async_context(runner(claiming, address, STIGMER_BLOB_FOLDER=blobs))
        return [
            await compare_pure(runs, rounds),
            await compare_calls(runs, client, address, site, max(2, rounds // 4)),
            await compare_claims(claiming, runs, site, rounds),
        ]


async def compare_pure(runs: Runs, rounds: int) -> Row:
    many, one = pure(TASKS), pure(1)
    for definition in (many, one):
        await workflow_milliseconds(runs, definition)
    times = [(await workflow_milliseconds(runs, many), await workflow_milliseconds(runs, one)) for _ in range(rounds)]
    return Row(
        name=f"{TASKS} set tasks",
        ours=statistics.median(time for time, _ in times),
        peer_name="1 set task",
        peer=statistics.median(time for _, time in times),
        unit="ms",
        limit=PURE_LIMIT,
    )


async def compare_calls(runs: Runs, client: Client, temporal: str, site: Site, rounds: int) -> Row:
    url = f"{site.url}/pet"
    definition = calls(url)

    async def ours() -> Any:
        return await (await runs.start(runs.add(definition))).result()

    async with plain_worker(client, temporal) as plain:

        async def theirs() -> Any:
            return await plain(url, TASKS)

        assert await ours() == await theirs()
        times = [(await wall_milliseconds(ours), await wall_milliseconds(theirs)) for _ in range(rounds)]
    # How many times faster ours is: the peer stands in the place of ours.
    return Row(
        name=f"{TASKS} plain activities",
        ours=statistics.median(time for _, time in times),
        peer_name=f"{TASKS} GETs of a workflow",
        peer=statistics.median(time for time, _ in times),
        unit="ms",
        limit=CALLS_LIMIT,
        at_least=True,
    )


async def compare_claims(claiming: Runs, without: Runs, site: Site, rounds: int) -> Row:
    """What small values pay where large ones may be kept outside of histories."""
    definition = calls(f"{site.url}/pet")

    def running(runs: Runs) -> Callable[[], Awaitable[Any]]:
        async def once() -> Any:
            return await (await runs.start(runs.add(definition))).result()

        return once

    ours, theirs = running(claiming), running(without)
    assert await ours() == await theirs()
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        # In turn, so that neither always has the machine as the other left it.
        both = {one: await wall_milliseconds(one) for one in ((ours, theirs) if number % 2 else (theirs, ours))}
        times.append((both[ours], both[theirs]))
    return Row(
        name=f"{TASKS} GETs with a folder for large values",
        ours=statistics.median(time for time, _ in times),
        peer_name="without one",
        peer=statistics.median(time for _, time in times),
        unit="ms",
        limit=CLAIM_LIMIT,
    )


if __name__ == "__main__":
    sys.exit(measure_and_print("workflow", __doc__, measure, quick=5, full=20))
