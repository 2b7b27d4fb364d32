"""Whoever waits for an execution is told of its end, once, through a real Temporal; and nobody sees the token."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from stigmer_server.messages import copied
from stigmer_server.testing import Api, TemporalServer, serve

Make = Callable[..., Awaitable[Any]]
AGENT, WORKFLOW = EXECUTIONS = ["agent_execution", "workflow_execution"]

pytestmark = pytest.mark.slow


@workflow.defn(name="caller", sandboxed=False)
class Caller:
    """Waits for an execution as a task that calls an agent does."""

    @workflow.run
    async def run(self) -> RawValue:
        """Return what the activity was completed with."""
        return await workflow.execute_activity(
            "wait",
            result_type=RawValue,
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


@asynccontextmanager
async def waiting(temporal: TemporalServer) -> AsyncGenerator[tuple[bytes, WorkflowHandle[Any, RawValue]]]:
    """Start a run that waits, and give its token."""
    client = await Client.connect(temporal.address)
    tokens: asyncio.Queue[bytes] = asyncio.Queue()
    queue = f"callers-{uuid.uuid4().hex}"

    @activity.defn(name="wait")
    async def wait() -> None:
        tokens.put_nowait(activity.info().task_token)
        activity.raise_complete_async()

    async with Worker(
        client,
        task_queue=queue,
        workflows=[Caller],
        activities=[wait],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        handle = await client.start_workflow(Caller.run, id=queue, task_queue=queue)
        async with asyncio.timeout(30):
            yield await tokens.get(), handle


async def refusal(handle: WorkflowHandle[Any, RawValue]) -> ApplicationError:
    """Wait until the caller fails, and return why."""
    with pytest.raises(WorkflowFailureError) as caught:
        await asyncio.wait_for(handle.result(), 30)
    error = caught.value.cause
    assert isinstance(error, ActivityError)
    assert isinstance(error.cause, ApplicationError)
    return error.cause


def spec(token: bytes, **more: Any) -> dict[str, Any]:
    return {"callbackToken": base64.b64encode(token).decode(), **more}


async def report(api: Api, kind: str, execution: Any, **status: Any) -> Any:
    return await api(kind, "updateStatus", {"executionId": execution.metadata.id, "status": status})


@asynccontextmanager
async def server(folder: Path, temporal: TemporalServer) -> AsyncGenerator[Api]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    async with serve(folder, engine=True, temporal_address=temporal.address, watch_seconds=0.5) as api:
        yield api


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_the_caller_gets_the_finished_execution_without_its_secrets(
    tmp_path: Path, temporal: TemporalServer, make: Make, kind: str
) -> None:
    async with waiting(temporal) as (token, handle), server(tmp_path, temporal) as api:
        secret = {"TOKEN": {"value": "s3cret", "isSecret": True}}
        made = await make(api, kind, spec=spec(token, runtimeEnv=secret))
        ended = await report(api, kind, made, phase="EXECUTION_COMPLETED")
        payload = (await asyncio.wait_for(handle.result(), 30)).payload
    assert payload.metadata["encoding"] == b"json/protobuf"
    assert payload.metadata["messageType"].decode() == ended.DESCRIPTOR.full_name
    assert b"s3cret" not in payload.data
    assert made.metadata.id.encode() in payload.data
    assert b"EXECUTION_COMPLETED" in payload.data


@pytest.mark.parametrize("kind", EXECUTIONS)
@pytest.mark.parametrize("path", ["report", "cancel", "terminate", "delete", "watch"])
async def test_however_an_execution_ends_otherwise_the_caller_gets_an_error(
    tmp_path: Path, temporal: TemporalServer, make: Make, kind: str, path: str
) -> None:
    async with waiting(temporal) as (token, handle), server(tmp_path, temporal) as api:
        made = await make(api, kind, spec=spec(token))
        id = made.metadata.id
        match path:
            case "report":
                await report(api, kind, made, phase="EXECUTION_FAILED", error="no luck")
            case "cancel" | "terminate":
                await api(kind, path, {"id": id, "reason": "no luck"})
            case "delete":
                await api(kind, "delete", {"value": id})
            case _:
                client = await Client.connect(temporal.address)
                run = client.get_workflow_handle(made.status.temporal_workflow_id)
                async with asyncio.timeout(30):
                    while True:
                        try:
                            await run.terminate(reason="no luck")
                            break
                        except RPCError:
                            await asyncio.sleep(0.05)  # not begun yet
        error = await refusal(handle)
    phase = {"report": "FAILED", "cancel": "CANCELLED", "delete": "CANCELLED"}.get(path, "TERMINATED")
    assert error.type == f"EXECUTION_{phase}"
    assert id in error.message
    assert ("deleted" if path == "delete" else "no luck") in error.message
    assert error.details[0]["executionId"] == id
    assert error.non_retryable


async def test_a_start_that_is_refused_is_told_to_the_caller(
    tmp_path: Path, temporal: TemporalServer, make: Make
) -> None:
    async with (
        waiting(temporal) as (token, handle),
        serve(tmp_path, engine=True, temporal_address=temporal.address, agent_execution_queue="ä" * 999) as api,
    ):
        await make(api, AGENT, spec=spec(token))
        assert "could not be started" in (await refusal(handle)).message


async def test_a_caller_hears_of_an_end_that_came_while_temporal_was_away_and_the_server_was_killed(
    tmp_path: Path, temporal: TemporalServer, make: Make
) -> None:
    async with waiting(temporal) as (token, handle):
        async with serve(tmp_path) as api:  # without an engine
            made = await make(api, AGENT, spec=spec(token))
            await report(api, AGENT, made, phase="EXECUTION_COMPLETED")
            await api(AGENT, "delete", {"value": made.metadata.id})
        async with server(tmp_path, temporal):
            payload = (await asyncio.wait_for(handle.result(), 30)).payload
    assert made.metadata.id.encode() in payload.data


async def test_a_token_that_is_none_stands_in_nobodys_way(tmp_path: Path, temporal: TemporalServer, make: Make) -> None:
    async with waiting(temporal) as (token, handle), server(tmp_path, temporal) as api:
        for given in (b"nonsense", token):
            made = await make(api, AGENT, f"run {len(given)}", spec=spec(given))
            await report(api, AGENT, made, phase="EXECUTION_COMPLETED")
        await asyncio.wait_for(handle.result(), 30)


async def test_a_token_is_sealed_anew_when_keys_are_rotated(
    tmp_path: Path, temporal: TemporalServer, make: Make
) -> None:
    command = [sys.executable, "-m", "stigmer_server", "rotate-key", "--db-path", str(tmp_path / "stigmer.db")]
    async with waiting(temporal) as (token, handle):
        async with serve(tmp_path) as api:
            made = await make(api, AGENT, spec=spec(token))
        for step in ([], ["--retire"]):
            await asyncio.to_thread(subprocess.run, [*command, *step], check=True, timeout=60)
        assert len((tmp_path / "encryption.key").read_text().split()) == 1
        async with server(tmp_path, temporal) as api:
            await report(api, AGENT, made, phase="EXECUTION_COMPLETED")
            await asyncio.wait_for(handle.result(), 30)


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", EXECUTIONS)
async def test_nobody_ever_sees_a_token(
    tmp_path: Path, make: Make, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = b"capability-" + uuid.uuid4().hex.encode()
    clear = (token, base64.b64encode(token))
    async with serve(tmp_path, log_level="trace") as api:
        made = await make(api, kind, spec=spec(token))
        seen = [made, await api(kind, "get", {"value": made.metadata.id})]
        seen += (await api(kind, "list", {})).entries
        field = "value" if kind == AGENT else "executionId"
        states = aiter(api.stream(kind, "subscribe", {field: made.metadata.id}))
        seen.append(await anext(states))
        sent = copied(made)
        sent.spec.callback_token = token
        with pytest.raises(InvalidArgumentError):
            await api(kind, "update", sent)
        seen.append(await report(api, kind, made, phase="EXECUTION_COMPLETED"))
        history = await api.app.resources.store.history(kind, made.metadata.id)
    texts = [message.SerializeToString() + str(message).encode() for message in seen]
    texts += [entry.data.encode() + (entry.wire or b"") for entry in history]
    texts += await asyncio.to_thread(contents, tmp_path)
    captured = capsys.readouterr()
    texts += [captured.out.encode(), captured.err.encode()]
    assert not [text for text in texts for part in clear if part in text]
