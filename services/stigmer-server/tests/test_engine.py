"""Executions and a real Temporal, which may be there, come late, or go away and come back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from stigmer_server.testing import Api, TemporalServer, free_port, serve

Make = Callable[..., Awaitable[Any]]
KIND = "agent_execution"
PENDING, FAILED = 1, 4

pytestmark = pytest.mark.slow


@asynccontextmanager
async def server(folder: Path, address: str, **settings: Any) -> AsyncGenerator[Api]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    async with serve(folder, engine=True, temporal_address=address, **settings) as api:
        yield api


async def described(client: Client, kind: str, execution: Any) -> Any:
    """Wait until the execution's run exists, and return what Temporal says of it."""
    run = "agent-execution" if kind == KIND else "workflow-execution"
    handle = client.get_workflow_handle(f"stigmer/{run}/invoke/{execution.metadata.id}")
    async with asyncio.timeout(30):
        while True:
            try:
                return await handle.describe()
            except RPCError:
                await asyncio.sleep(0.05)


async def cancel_requested(handle: WorkflowHandle[Any, Any]) -> None:
    """Wait until the run was asked to stop; Temporal tells that in the run's history alone."""
    async with asyncio.timeout(30):
        async for event in handle.fetch_history_events(wait_new_event=True):
            if event.HasField("workflow_execution_cancel_requested_event_attributes"):
                return


@pytest.mark.parametrize("kind", [KIND, "workflow_execution"])
async def test_a_new_execution_is_started(tmp_path: Path, temporal: TemporalServer, make: Make, kind: str) -> None:
    client = await Client.connect(temporal.address)
    async with server(tmp_path, temporal.address) as api:
        made = await make(api, kind)
        assert made.status.phase == PENDING
        run = await described(client, kind, made)
    queue = "agent_execution_runner" if kind == KIND else "workflow_execution_runner"
    assert run.workflow_type == (
        "stigmer/agent-execution/invoke" if kind == KIND else "stigmer/workflow-execution/invoke"
    )
    assert run.task_queue == queue
    assert await run.memo() == {"activityTaskQueue": queue}
    history = await client.get_workflow_handle(run.id).fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (argument,) = await client.data_converter.decode(payloads)
    assert argument == {"execution_id": made.metadata.id, "org": "local"}


async def test_runs_start_on_the_queue_of_the_settings(tmp_path: Path, temporal: TemporalServer, make: Make) -> None:
    client = await Client.connect(temporal.address)
    async with server(tmp_path, temporal.address, agent_execution_queue="elsewhere") as api:
        assert (await described(client, KIND, await make(api, KIND))).task_queue == "elsewhere"


async def test_what_was_left_pending_is_started_when_an_engine_comes(
    tmp_path: Path, temporal: TemporalServer, make: Make
) -> None:
    async with serve(tmp_path) as api:
        left = [await make(api, KIND, f"run {number}") for number in range(3)]
    client = await Client.connect(temporal.address)
    async with server(tmp_path, temporal.address):
        for execution in left:
            assert (await described(client, KIND, execution)).status is WorkflowExecutionStatus.RUNNING


async def test_temporal_may_come_late_and_come_back(tmp_path: Path, make: Make) -> None:
    temporal = TemporalServer(tmp_path, port=free_port())
    try:
        async with server(tmp_path / "server", temporal.address) as api:
            early = await make(api, KIND, "early")
            assert early.status.phase == PENDING
            await asyncio.to_thread(temporal.start)
            client = await Client.connect(temporal.address)
            await described(client, KIND, early)
            await asyncio.to_thread(temporal.stop)
            meanwhile = await make(api, KIND, "meanwhile")
            assert meanwhile.status.phase == PENDING
            await asyncio.to_thread(temporal.start)
            await described(await Client.connect(temporal.address), KIND, meanwhile)
    finally:
        await asyncio.to_thread(temporal.stop)


async def test_starting_again_starts_nothing_twice(tmp_path: Path, temporal: TemporalServer, make: Make) -> None:
    client = await Client.connect(temporal.address)
    async with server(tmp_path, temporal.address) as api:
        made = await make(api, KIND)
        first = await described(client, KIND, made)
    async with server(tmp_path, temporal.address) as api:
        other = await make(api, KIND, "other")
        await described(client, KIND, other)
        assert (await described(client, KIND, made)).run_id == first.run_id
        assert (await api(KIND, "get", {"value": made.metadata.id})).status.phase == PENDING


async def test_a_run_that_temporal_refuses_fails_and_its_followers_are_told(
    tmp_path: Path, temporal: TemporalServer, make: Make
) -> None:
    # Temporal takes queue names up to 1,000 characters, counted in bytes.
    async with server(tmp_path, temporal.address, agent_execution_queue="ä" * 999) as api:
        made = await make(api, KIND)
        states = api.stream(KIND, "subscribe", {"value": made.metadata.id})
        async with asyncio.timeout(30):
            last = [state async for state in states][-1]
        assert last.status.phase == FAILED
        assert "could not be started" in last.status.error
        assert await api(KIND, "get", {"value": made.metadata.id}) == last


async def test_deleting_a_running_execution_cancels_its_run(
    tmp_path: Path, temporal: TemporalServer, make: Make
) -> None:
    client = await Client.connect(temporal.address)
    async with server(tmp_path, temporal.address) as api:
        made = await make(api, KIND)
        run = await described(client, KIND, made)
        await api(KIND, "delete", {"value": made.metadata.id})
        await cancel_requested(client.get_workflow_handle(run.id))


async def test_stopping_an_execution_stops_its_run(tmp_path: Path, temporal: TemporalServer, make: Make) -> None:
    client = await Client.connect(temporal.address)
    async with server(tmp_path, temporal.address) as api:
        cancelled, terminated = await make(api, KIND, "cancelled"), await make(api, KIND, "terminated")
        first, second = await described(client, KIND, cancelled), await described(client, KIND, terminated)
        await api(KIND, "cancel", {"id": cancelled.metadata.id, "reason": "enough"})
        await api(KIND, "terminate", {"id": terminated.metadata.id, "reason": "enough"})
        await cancel_requested(client.get_workflow_handle(first.id))
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(client.get_workflow_handle(second.id).result(), 30)
        assert "enough" in str(caught.value.cause)


def test_a_server_without_an_engine_never_loads_temporal(tmp_path: Path) -> None:
    code = f"""
import asyncio, pathlib, sys
from stigmer_server.testing import manifest, serve

async def main():
    async with serve(pathlib.Path({str(tmp_path)!r})) as api:
        await api("environment", "create", manifest("environment", "plain", {{}}))

asyncio.run(main())
assert not any(name.partition(".")[0] == "temporalio" for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
