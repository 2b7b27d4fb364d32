"""What the engine does for a call belongs to the call's trace, whenever it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import get_current_span
from stigmer_grpc.collector import Collector, collecting
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from stigmer_server.engine.port import AwayError, Runs, Work
from stigmer_server.engine.testing import MemoryRuns
from stigmer_server.testing import Api, TemporalServer, manifest, serve

Make = Callable[..., Awaitable[Any]]
KIND = "workflow_execution"
CREATED, SIGNALLED, STOPPED = (f"{number:032x}" for number in (1, 2, 3))


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def of(trace: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}


class TracedRuns(MemoryRuns):
    """Tells the trace in which each thing was done."""

    def __init__(self) -> None:
        super().__init__()
        self.traces: dict[str, str] = {}
        self.done = asyncio.Event()

    def _note(self, what: str) -> None:
        self.traces.setdefault(what, f"{get_current_span().get_span_context().trace_id:032x}")
        if {"start", "signal", "cancel", "terminate"} <= self.traces.keys():
            self.done.set()

    async def start(self, work: Work, queue: str) -> bool:
        self._note("start")
        return await super().start(work, queue)

    async def signal(self, run: str, name: str, payload: Any, id: str) -> bool:
        self._note("signal")
        return await super().signal(run, name, payload, id)

    async def cancel(self, run: str, reason: str) -> None:
        self._note("cancel")
        await super().cancel(run, reason)

    async def terminate(self, run: str, reason: str) -> None:
        self._note("terminate")
        await super().terminate(run, reason)


async def create(api: Api, workflow: Any, name: str) -> Any:
    spec = {"workflowId": workflow.metadata.id}
    return await api(KIND, "create", manifest(KIND, name, spec), metadata=of(CREATED))


async def test_what_is_found_to_do_later_belongs_to_the_call_that_asked_for_it(
    tmp_path: Path, make: Make, collector: Collector
) -> None:
    runs = TracedRuns()

    async def away() -> Runs:
        raise AwayError("not yet")

    async def there() -> Runs:
        return runs

    async with serve(tmp_path, connect_engine=away, otlp_endpoint=collector.endpoint) as api:
        workflow = await make(api, "workflow")
        started = [await create(api, workflow, name) for name in ("kept", "cancelled", "terminated")]
        signal = {"executionId": started[0].metadata.id, "signalName": "go"}
        await api(KIND, "sendSignal", signal, metadata=of(SIGNALLED))
        await api(KIND, "cancel", {"id": started[1].metadata.id}, metadata=of(STOPPED))
        await api(KIND, "terminate", {"id": started[2].metadata.id}, metadata=of(STOPPED))
    # Another process, which knows nothing of the calls but what is stored.
    async with serve(tmp_path, connect_engine=there, otlp_endpoint=collector.endpoint):
        async with asyncio.timeout(30):
            await runs.done.wait()
    assert runs.traces == {"start": CREATED, "signal": SIGNALLED, "cancel": STOPPED, "terminate": STOPPED}


@pytest.mark.slow
async def test_a_run_learns_the_trace_of_a_signal(
    tmp_path: Path, make: Make, temporal: TemporalServer, collector: Collector
) -> None:
    async with serve(tmp_path, engine=True, temporal_address=temporal.address, otlp_endpoint=collector.endpoint) as api:
        made = await create(api, await make(api, "workflow"), "signalled")
        signal = {"executionId": made.metadata.id, "signalName": "go"}
        await api(KIND, "sendSignal", signal, metadata=of(SIGNALLED))
        client = await Client.connect(temporal.address)
        handle = client.get_workflow_handle(made.status.temporal_workflow_id)
        headers: dict[str, Any] = {}
        async with asyncio.timeout(60):
            while len(headers) < 2:
                headers = await carried(handle)
    assert CREATED in headers["start"]
    assert SIGNALLED in headers["signal"]


async def carried(handle: WorkflowHandle[Any, Any]) -> dict[str, str]:
    """Return what a run was given beside the arguments, by the event that brought it."""
    found: dict[str, str] = {}
    try:
        async for event in handle.fetch_history_events():
            if event.HasField("workflow_execution_started_event_attributes"):
                found["start"] = str(event.workflow_execution_started_event_attributes.header)
            elif event.HasField("workflow_execution_signaled_event_attributes"):
                found["signal"] = str(event.workflow_execution_signaled_event_attributes.header)
    except RPCError:
        await asyncio.sleep(0.05)  # not started yet
    return found
