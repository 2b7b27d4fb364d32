"""The server as a process: how it starts, how it ends, and what is left when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import RpcError, UnavailableError

from stigmer_server.testing import Api, ServerProcess, manifest, serve

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


async def _creating(api: Api, answered: list[str], refused: list[RpcError]) -> None:
    """Create agents until a call is refused; every call is answered one way or the other."""
    while not refused:
        try:
            made = await api("agent", "create", manifest("agent", f"busy {os.urandom(8).hex()}", AGENT), timeout=20)
            answered.append(made.metadata.id)
        except RpcError as error:
            refused.append(error)


async def test_a_signal_under_load_leaves_no_call_unanswered(tmp_path: Path, processes: Processes) -> None:
    server = ServerProcess(tmp_path)
    processes.append(server)
    api = await server.ready()
    answered: list[str] = []
    refused: list[list[RpcError]] = [[] for _ in range(16)]
    callers = [asyncio.create_task(_creating(api, answered, each)) for each in refused]
    async with asyncio.timeout(60):
        while len(answered) < 200:  # noqa: ASYNC110 - the callers only count
            await asyncio.sleep(0.01)
        server.process.terminate()
        await asyncio.gather(*callers)
    code, _ = await server.ended()
    assert code == 0
    assert {type(error) for each in refused for error in each} == {UnavailableError}
    async with serve(tmp_path) as again:
        for made in answered:
            assert (await again("agent", "get", {"value": made})).metadata.id == made


async def test_a_second_signal_ends_it_at_once_and_loses_nothing(tmp_path: Path, processes: Processes) -> None:
    server = ServerProcess(tmp_path, SHUTDOWN_GRACE_SECONDS="60")
    processes.append(server)
    api = await server.ready()
    made = await api("agent", "create", manifest("agent", "Kept", AGENT))
    # A call that would hold up the end for the whole grace.
    held = api.upload("skill", "pushParts", _never())
    holding = asyncio.create_task(held)
    done, _ = await asyncio.wait({holding}, timeout=1)
    assert not done, "the call is under way"
    server.process.terminate()
    async with asyncio.timeout(30):
        while "stopping" not in server.said():  # noqa: ASYNC110 - a process tells it in its log
            await asyncio.sleep(0.02)
        server.process.terminate()
        code, told = await server.ended()
        await asyncio.gather(holding, return_exceptions=True)
    assert code == 1
    assert "ending at once" in told
    async with serve(tmp_path) as again:
        assert (await again("agent", "get", {"value": made.metadata.id})).metadata.id == made.metadata.id


async def _never() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield {}
