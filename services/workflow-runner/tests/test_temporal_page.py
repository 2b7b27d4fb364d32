"""What people find and see of runs in Temporal itself."""

import asyncio
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributeKey
from workflow_runner import names
from workflow_runner.testing import Execution, PeerServer, Runs, Site

_EXECUTION = SearchAttributeKey.for_keyword("StigmerExecution")


async def until_found(client: Client, query: str) -> str:
    """Return the id of the run that a query finds; its index follows after a moment."""
    async with asyncio.timeout(60):
        while True:
            async for found in client.list_workflows(query):
                return found.id
            await asyncio.sleep(0.1)


async def tagged(runs: Runs, document: str) -> tuple[Execution, WorkflowHandle[Any, Any]]:
    """Start runs until one may name the attributes: a new server's are there a moment after the worker."""
    async with asyncio.timeout(60):
        while True:
            execution = runs.add(document)
            handle = await runs.start(execution)
            await runs.peer.until(execution, lambda seen: bool(seen.reported))
            if _EXECUTION in (await handle.describe()).typed_search_attributes:
                return execution, handle
            await handle.terminate()
            await asyncio.sleep(0.2)


@pytest.mark.requirement("report.page")
async def test_runs_are_found_by_organization_workflow_execution_and_phase(
    runs: Runs, client: Client, peer: PeerServer
) -> None:
    execution, handle = await tagged(runs, "do:\n- w: {wait: PT3S}\n- x: {wait: PT0.01S}")
    who = f'StigmerExecution = "{execution.id}" AND StigmerOrg = "acme" AND StigmerWorkflow = "test"'
    assert await until_found(client, f'{who} AND StigmerPhase = "IN_PROGRESS"') == handle.id
    await handle.signal(names.PAUSE, {"id": "p"})
    assert await until_found(client, f'{who} AND StigmerPhase = "PAUSED"') == handle.id
    await handle.signal(names.RESUME, {"id": "r"})
    await handle.result()
    assert await until_found(client, f'{who} AND StigmerPhase = "COMPLETED"') == handle.id


@pytest.mark.requirement("report.page")
async def test_the_page_tells_what_a_run_is_at(runs: Runs, client: Client, peer: PeerServer, site: Site) -> None:
    site.page("/pet", {"name": "Rex"})
    execution = runs.add(
        f"do:\n- get: {{call: http, with: {{method: post, endpoint: {site.url}/pet}}}}\n"
        "- o: {do: [{w: {wait: PT1S}}]}"
    )
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: "/do/1/o/do/0/w" in seen.reported)
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert metadata.current_details == "- **o** (do) `/do/1/o`\n- **w** (wait) `/do/1/o/do/0/w`"
    await handle.result()
    summaries = {
        event.event_type: event.user_metadata.summary.data.decode()
        async for event in handle.fetch_history_events()
        if event.user_metadata.summary.data
    }
    assert summaries[EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED] == '"/do/0/get"'
    assert summaries[EventType.EVENT_TYPE_TIMER_STARTED] == '"/do/1/o/do/0/w"'
