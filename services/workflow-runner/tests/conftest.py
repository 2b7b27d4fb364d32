"""What the tests run on: a real Temporal server, a worker, a gRPC peer and an HTTP site, all on loopback."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from stigmer_runner.testing import temporal_server
from temporalio.client import Client
from workflow_runner.settings import Settings
from workflow_runner.testing import PeerServer, Runs, Site, StartRunner, peer_server, site_server
from workflow_runner.worker import serve


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Address of a Temporal development server that all tests of the process share."""
    with temporal_server(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
async def client(temporal: str) -> Client:
    return await Client.connect(temporal)


@pytest.fixture
async def peer() -> AsyncGenerator[PeerServer]:
    async with peer_server() as server:
        yield server


@pytest.fixture
async def site() -> AsyncGenerator[Site]:
    async with site_server() as made:
        yield made


@pytest.fixture
async def start_runner(temporal: str, client: Client, peer: PeerServer) -> AsyncGenerator[StartRunner]:
    """Start a worker with settings of one's own."""
    running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    async def start(**settings: Any) -> Runs:
        queue = f"queue-{uuid.uuid4().hex}"
        given = {"temporal_address": temporal, "server_address": peer.address, "task_queue": queue}
        stop = asyncio.Event()
        task = asyncio.create_task(serve(Settings.model_validate({**given, **settings}), stop))
        running.append((stop, task))
        return Runs(client, peer, queue)

    yield start
    for stop, task in running:
        stop.set()
        await task


@pytest.fixture
async def runs(start_runner: StartRunner) -> Runs:
    """A worker with the usual settings."""
    return await start_runner()
