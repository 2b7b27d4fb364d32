"""The server as a process: how it starts, how it ends, and what is left when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import RpcError, connect
from stigmer_protos import descriptors

from stigmer_server.testing import Api, free_port, manifest, serve

pytestmark = pytest.mark.slow
AGENT = {"instructions": "Answer every question in one sentence."}


class Process:
    """A `stigmer-server` of its own."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None, **variables: str) -> None:
        self.port = port or free_port()
        places = {"DB_PATH": str(folder / "stigmer.db"), "STORAGE_PATH": str(folder / "storage")}
        temporal = {"TEMPORAL_HOST_PORT": f"127.0.0.1:{free_port()}"}
        environment = {**os.environ, **places, **temporal, "GRPC_PORT": str(self.port), **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stigmer_server", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def ready(self) -> Api:
        channel = connect(f"127.0.0.1:{self.port}", pool=descriptors.pool())
        await channel.ready(30)
        return Api(channel)

    async def ended(self) -> tuple[int, str]:
        """Wait for its end, and return its exit code and what it said."""
        out, error = await asyncio.to_thread(self.process.communicate, timeout=30)
        return self.process.returncode, out + error

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(tmp_path: Path, processes: list[Process], number: signal.Signals) -> None:
    server = Process(tmp_path)
    processes.append(server)
    api = await server.ready()
    made = await api("agent", "create", manifest("agent", "Kept", AGENT))
    spec = {"agentId": made.metadata.id, "message": "hello"}
    run = await api("agent_execution", "create", manifest("agent_execution", "run", spec))
    states = aiter(api.stream("agent_execution", "subscribe", {"value": run.metadata.id}))
    await anext(states)
    server.process.send_signal(number)
    async with asyncio.timeout(10):
        assert [state async for state in states] == []
    code, _ = await server.ended()
    assert code == 0
    await api.channel.close()


async def test_a_port_that_is_taken_is_told(tmp_path: Path, processes: list[Process]) -> None:
    async with serve(tmp_path / "first", transport="tcp") as api:
        port = int(api.app.addresses[0].rpartition(":")[2])
        server = Process(tmp_path / "second", port=port)
        processes.append(server)
        code, told = await server.ended()
    assert code == 5
    assert str(port) in told
    assert "Traceback" not in told


async def test_a_database_that_is_in_use_is_told_with_its_holder(tmp_path: Path, processes: list[Process]) -> None:
    async with serve(tmp_path):
        server = Process(tmp_path)
        processes.append(server)
        code, told = await server.ended()
    assert code == 5
    assert str(os.getpid()) in told
    assert "Traceback" not in told


async def test_wrong_settings_end_it_before_it_begins(tmp_path: Path, processes: list[Process]) -> None:
    server = Process(tmp_path, "--log-level", "loud", GRPC_PORT="seven")
    processes.append(server)
    code, told = await server.ended()
    assert code == 2
    assert "--log-level" in told
    assert "GRPC_PORT" in told
    assert not (tmp_path / "stigmer.db").exists()


async def test_logs_are_json_lines_outside_of_local(tmp_path: Path, processes: list[Process]) -> None:
    import json

    server = Process(tmp_path, ENV="production")
    processes.append(server)
    await (await server.ready()).channel.close()
    server.process.terminate()
    code, told = await server.ended()
    assert code == 0
    lines = [json.loads(line) for line in told.splitlines()]
    assert {"time", "level", "message"} <= set(lines[0])


async def test_nothing_that_was_acknowledged_is_lost_by_a_kill(tmp_path: Path, processes: list[Process]) -> None:
    acknowledged: dict[str, str] = {}
    for _ in range(3):
        server = Process(tmp_path)
        processes.append(server)
        api = await server.ready()
        before = len(acknowledged)
        writers = [asyncio.create_task(_write(api, acknowledged)) for _ in range(8)]
        async with asyncio.timeout(30):
            while len(acknowledged) < before + 100:
                await asyncio.wait(writers, timeout=0.01)
        server.process.kill()
        await asyncio.gather(*writers)
        await asyncio.to_thread(server.process.wait)
        await api.channel.close()
    server = Process(tmp_path)
    processes.append(server)
    api = await server.ready()
    for id, instance in acknowledged.items():
        agent = await api("agent", "get", {"value": id})
        assert agent.status.default_instance_id == instance
        assert (await api("agent_instance", "get", {"value": instance})).spec.agent_id == id
    await api.channel.close()
    server.process.terminate()
    assert (await server.ended())[0] == 0
    with sqlite3.connect(tmp_path / "stigmer.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


async def _write(api: Api, acknowledged: dict[str, str]) -> None:
    """Create agents until the server is gone."""
    while True:
        name = f"agent {os.urandom(8).hex()}"
        try:
            made: Any = await api("agent", "create", manifest("agent", name, AGENT), timeout=10)
        except RpcError:
            return
        acknowledged[made.metadata.id] = made.status.default_instance_id
