"""The server as a process: how it starts, how it ends, and what is left when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stigmer_server.testing import ServerProcess, manifest, serve

pytestmark = pytest.mark.slow
Processes = list[ServerProcess]
AGENT = {"instructions": "Answer every question in one sentence."}


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    started: Processes = []
    yield started
    for process in started:
        await process.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(tmp_path: Path, processes: Processes, number: signal.Signals) -> None:
    server = ServerProcess(tmp_path)
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


async def test_a_port_that_is_taken_is_told(tmp_path: Path, processes: Processes) -> None:
    async with serve(tmp_path / "first", transport="tcp") as api:
        port = int(api.app.addresses[0].rpartition(":")[2])
        server = ServerProcess(tmp_path / "second", port=port)
        processes.append(server)
        code, told = await server.ended()
    assert code == 5
    assert str(port) in told
    assert "Traceback" not in told


async def test_a_database_that_is_in_use_is_told_with_its_holder(tmp_path: Path, processes: Processes) -> None:
    async with serve(tmp_path):
        server = ServerProcess(tmp_path)
        processes.append(server)
        code, told = await server.ended()
    assert code == 5
    assert str(os.getpid()) in told
    assert "Traceback" not in told


async def test_wrong_settings_end_it_before_it_begins(tmp_path: Path, processes: Processes) -> None:
    server = ServerProcess(tmp_path, "--log-level", "loud", GRPC_PORT="seven")
    processes.append(server)
    code, told = await server.ended()
    assert code == 2
    assert "--log-level" in told
    assert "GRPC_PORT" in told
    assert not (tmp_path / "stigmer.db").exists()


async def test_it_listens_for_other_machines_only_with_tls_and_tokens(tmp_path: Path, processes: Processes) -> None:
    server = ServerProcess(tmp_path, "--grpc-host", "0.0.0.0")
    processes.append(server)
    code, told = await server.ended()
    assert code == 2
    assert "--auth token" in told
    assert "--tls-certificate" in told
    assert "--insecure" in told
    assert not (tmp_path / "stigmer.db").exists()


@pytest.mark.parametrize(("arguments", "says"), [((), "--auth token"), (("--auth", "token"), "need a token")])
async def test_it_says_who_is_let_in(
    tmp_path: Path, processes: Processes, arguments: tuple[str, ...], says: str
) -> None:
    server = ServerProcess(tmp_path, *arguments)
    processes.append(server)
    await (await server.ready()).channel.close()
    server.process.terminate()
    code, told = await server.ended()
    assert code == 0
    assert says in told
    assert "sto_" not in told


async def test_logs_are_json_lines_outside_of_local(tmp_path: Path, processes: Processes) -> None:
    import json

    server = ServerProcess(tmp_path, ENV="production")
    processes.append(server)
    await (await server.ready()).channel.close()
    server.process.terminate()
    code, told = await server.ended()
    assert code == 0
    lines = [json.loads(line) for line in told.splitlines()]
    assert {"time", "level", "message"} <= set(lines[0])
