"""The workflow runner killed while it keeps large values outside of histories, and collects those of forgotten runs.

Runs share values, and so do runs that Temporal has forgotten: what is collected of those must never be missed by these.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from stigmer_runner.claims import FolderStore, Owner
from stigmer_server.testing import TemporalServer
from temporalio.client import Client
from workflow_runner import names
from workflow_runner.testing import Execution, PeerServer, Response, RunnerProcess, Runs, peer_server, site_server

SHORT, FULL = 4, 100
TEXTS = [f"{number}-{'0123456789abcdef' * 20_000}" for number in range(3)]
"""Values of runs; several runs have the same."""
LONG_AGO = 100_000.0
ENDS_SECONDS = 120.0
DOCUMENT = """
do:
- fetch: {call: http, with: {method: get, endpoint: SITE/text/NUMBER}, export: {as: '{text: .text}'}}
- loop:
    for: {each: n, in: '[1, 2, 3]'}
    do:
    - pause: {wait: {milliseconds: 100}}
    - again: {set: {text: '${ $context.text }', n: '${ $n }'}}
- send:
    try:
    - it: {call: http, with: {method: put, endpoint: SITE/echo, body: {text: '${ .text }'}}}
    catch: {errors: {with: {status: 408}}, retry: {limit: {attempt: {count: 1000}}}}
- last: {set: {same: '${ .text == $context.text }', beginning: '${ .text[0:2] }'}, export: {as: {done: true}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A runner that collects all the time, and what it works with."""

    runs: Runs
    runner: RunnerProcess
    client: Client
    site: str
    blobs: Path

    def make_old(self) -> None:
        """Make every run's values old enough to be collected, unless Temporal says that they are needed."""
        before = time.time() - LONG_AGO
        for folder in (self.blobs / "runs").glob("*"):
            with suppress(FileNotFoundError):
                os.utime(folder, (before, before))

    def forgotten(self) -> Owner:
        """Plant a run that Temporal does not know, with the values of all the others."""
        owner = Owner(namespace="default", workflow_id=f"forgotten-{uuid.uuid4().hex}", run_id=uuid.uuid4().hex)
        store = FolderStore(self.blobs)
        for path in list((self.blobs / "objects").glob("*/*")):
            with suppress(FileNotFoundError):
                store.put(owner, path.name, path.read_bytes())
        store.put(owner, hashlib.sha256(owner.encoded()).hexdigest(), owner.encoded())
        return owner


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    temporal = TemporalServer(tmp_path)
    await asyncio.to_thread(temporal.start)
    blobs = tmp_path / "blobs"
    try:
        async with peer_server() as peer, site_server() as site:
            for number, text in enumerate(TEXTS):
                site.page(f"/text/{number}", {"text": text})
            site.page("/echo", lambda request: Response(request.json))
            runner = _runner(tmp_path, temporal.address, peer, blobs)
            client = await Client.connect(temporal.address)
            try:
                await runner.start()
                runs = Runs(client, peer, names.TASK_QUEUE)
                yield World(runs=runs, runner=runner, client=client, site=site.url, blobs=blobs)
            finally:
                await runner.kill()
    finally:
        await asyncio.to_thread(temporal.stop)


def _runner(folder: Path, temporal: str, peer: PeerServer, blobs: Path) -> RunnerProcess:
    return RunnerProcess(
        folder,
        temporal=temporal,
        server=peer.address,
        STIGMER_BLOB_FOLDER=str(blobs),
        STIGMER_BLOB_SWEEP_SECONDS="0.05",
        STIGMER_BLOB_GRACE_SECONDS="60",
        LOG_LEVEL="warning",
    )


async def test_no_value_that_a_run_needs_is_collected_however_the_runner_dies(
    world: World, rounds: Callable[..., int], figures: Callable[..., None]
) -> None:
    kills, chance = rounds(short=SHORT, full=FULL), random.Random(20261130)
    executions: list[Execution] = []
    planted: list[Owner] = []
    for _ in range(kills):
        for number in range(len(TEXTS)):
            document = DOCUMENT.replace("SITE", world.site).replace("NUMBER", str(number))
            executions.append(world.runs.add(document))
            await world.runs.start(executions[-1])
        planted.append(await asyncio.to_thread(world.forgotten))
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        world.make_old()
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        await world.runner.kill()
        await world.runner.start()
    async with asyncio.timeout(ENDS_SECONDS + kills):
        for execution in executions:
            await world.client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}").result()
    for index, execution in enumerate(executions):
        assert execution.output == {"same": True, "beginning": f"{index % len(TEXTS)}-"}, execution.error
    world.make_old()
    await _until_gone(world.blobs, planted)
    kept = _whole_blobs(world.blobs)
    # At least what each of them fetched, and gave away.
    assert len({folder for folder, _ in kept}) == len(executions)
    figures(kills=kills, runs=len(executions), collected=len(planted), kept=len(kept))


async def _until_gone(blobs: Path, planted: list[Owner]) -> None:
    async with asyncio.timeout(30):
        while any((blobs / "runs" / owner.name).exists() for owner in planted):  # noqa: ASYNC110 - another process removes them
            await asyncio.sleep(0.05)


def _whole_blobs(blobs: Path) -> list[tuple[str, str]]:
    """Return run and key of every blob of a run, each of which is what its name says."""
    found: list[tuple[str, str]] = []
    for path in (blobs / "runs").glob("*/*"):
        if path.name == "owner" or path.suffix == ".part":
            continue
        content = path.read_bytes()
        if path.suffix == ".zst":
            content = zstandard.decompress(content)
        assert hashlib.sha256(content).hexdigest() == path.stem
        found.append((path.parent.name, path.name))
    return found
