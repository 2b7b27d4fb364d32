"""A server that drives the runner with a workflow of its own, as the contract describes it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import signal
import uuid
import zipfile
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.testing import Stigmer, client_of, enum_name, phase, run_stack
from google.protobuf import json_format
from stigmer_protos import descriptors
from stigmer_runner.contract_testing import contract_server
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import ActivityFailureError, Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.worker import Worker

pytestmark = pytest.mark.slow

TYPE = "stigmer/agent-execution/invoke"
EXECUTION = "ai.stigmer.agentic.agentexecution.v1.AgentExecution"
CONTROL = "agentexecution.v1.AgentExecutionControlController"
FAILED_PHASE, SYSTEM = 4, 4


@workflow.defn(name=TYPE, sandboxed=False)
class ServersWorkflow:
    """What such a server runs for an execution."""

    @workflow.run
    async def run(self, execution: RawValue) -> RawValue:
        given = json.loads(execution.payload.data)
        queue: str = workflow.memo_value("activityTaskQueue", type_hint=str)
        heartbeat: float = workflow.memo_value("heartbeatSeconds", type_hint=float)
        limit: float = workflow.memo_value("limitSeconds", type_hint=float)
        try:
            thread = await workflow.execute_activity(
                "EnsureThread",
                args=[given["spec"].get("sessionId", ""), given["spec"].get("agentId", "")],
                result_type=str,
                task_queue=queue,
                schedule_to_start_timeout=timedelta(minutes=1),
                start_to_close_timeout=timedelta(seconds=30),
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(seconds=5), backoff_coefficient=2.0, maximum_attempts=3
                ),
            )
            return await workflow.execute_activity(
                "ExecuteGraphton",
                args=[execution, thread],
                result_type=RawValue,
                task_queue=queue,
                schedule_to_start_timeout=timedelta(minutes=1),
                start_to_close_timeout=timedelta(seconds=limit),
                heartbeat_timeout=timedelta(seconds=heartbeat),
                retry_policy=RetryPolicy(maximum_attempts=workflow.memo_value("attempts", type_hint=int)),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            await workflow.execute_local_activity(
                "UpdateExecutionStatus",
                args=[given["metadata"]["id"], str(error.cause)],
                schedule_to_close_timeout=timedelta(seconds=30),
                retry_policy=RetryPolicy(maximum_attempts=3),
            )
            raise ApplicationError(f"execution failed: {error.cause}", non_retryable=True) from error


class Driver:
    """The server's side of Temporal."""

    def __init__(self, stigmer: Stigmer, client: Client) -> None:
        self.stigmer = stigmer
        self.client = client
        self.queue = f"agent_execution_stigmer-{uuid.uuid4().hex[:8]}"

    @activity.defn(name="UpdateExecutionStatus")
    async def update(self, execution_id: str, error: str) -> None:
        messages = [{"type": SYSTEM, "content": text} for text in ("The execution failed.", error)]
        status = {"phase": FAILED_PHASE, "messages": messages}
        await self.stigmer.call(
            "agentexecution.v1.AgentExecutionCommandController",
            "updateStatus",
            {"execution_id": execution_id, "status": status},
        )

    async def drive(
        self, execution: Any, *, heartbeat: float = 30, limit: float = 600, attempts: int = 1
    ) -> WorkflowHandle[Any, Any]:
        data = json_format.MessageToJson(execution, descriptor_pool=descriptors.pool()).encode()
        metadata = {"encoding": b"json/protobuf", "messageType": EXECUTION.encode()}
        return await self.client.start_workflow(
            TYPE,
            RawValue(Payload(metadata=metadata, data=data)),
            id=f"{TYPE}/{execution.metadata.id}",
            task_queue=self.queue,
            memo={
                "activityTaskQueue": self.stigmer.stack.queue,
                "heartbeatSeconds": heartbeat,
                "limitSeconds": limit,
                "attempts": attempts,
            },
            run_timeout=timedelta(minutes=10),
            result_type=RawValue,
        )

    async def status(self, handle: WorkflowHandle[Any, Any]) -> Any:
        """The activity's result, read as strictly as that server reads it."""
        async with asyncio.timeout(60):
            result = await handle.result()
        payload = result.payload
        assert payload.metadata["encoding"] == b"json/protobuf"
        assert payload.metadata["messageType"] == f"{EXECUTION}Status".encode()
        return json_format.Parse(payload.data, descriptors.message_type(f"{EXECUTION}Status")())


@contextlib.asynccontextmanager
async def driver_of(stigmer: Stigmer) -> AsyncGenerator[Driver]:
    made = Driver(stigmer, stigmer.temporal)
    async with Worker(made.client, task_queue=made.queue, workflows=[ServersWorkflow], activities=[made.update]):
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def undriven(temporal: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Any]:
    """A stack whose server starts no runs, with a runner."""
    async with run_stack(tmp_path_factory.mktemp("cloud"), temporal, TEMPORAL_HOST_PORT="127.0.0.1:1") as stack:
        await stack.start_runner()
        yield stack


@pytest_asyncio.fixture
async def driver(undriven: Any) -> AsyncGenerator[Driver]:
    async with client_of(undriven) as stigmer, driver_of(stigmer) as made:
        yield made


def said(status: Any) -> list[str]:
    return [message.content for message in status.messages if enum_name(message, "type") == "MESSAGE_AI"]


def additions(message: Any) -> list[str]:
    return [field.name for field, _ in message.ListFields() if field.number >= 1000]


async def start(stigmer: Stigmer, text: str, message: str = "Go", session: str = "", **agent: Any) -> Any:
    model = stigmer.stack.script(f"cloud-{uuid.uuid4().hex}", text)
    return await stigmer.execute("" if session else await stigmer.agent(**agent), message, model=model, session=session)


async def test_a_turn_is_taken_and_its_status_given_back(driver: Driver) -> None:
    text = "turns: [{tool_calls: [{name: write_file, args: {file_path: /a.txt, content: a}}]}, {text: Done.}]"
    execution = await start(driver.stigmer, text)
    status = await driver.status(await driver.drive(execution))

    assert (phase(status), said(status)[-1]) == ("EXECUTION_COMPLETED", "Done.")
    assert [call.name for call in status.tool_calls] == ["write_file"]
    assert additions(status) == []
    stored = (await driver.stigmer.get(execution.metadata.id)).status
    assert (phase(stored), said(stored)) == ("EXECUTION_COMPLETED", said(status))
    assert stored.usage.model_calls == 2


async def test_a_turn_that_fails_is_no_failed_activity(driver: Driver) -> None:
    execution = await start(driver.stigmer, "turns: [{error: {kind: bad_request, message: never}}]")
    status = await driver.status(await driver.drive(execution))

    assert phase(status) == "EXECUTION_FAILED"
    assert "never" in status.error
    assert status.completed_at


async def test_a_model_that_is_away_for_a_while_is_asked_again_within_the_one_attempt(
    driver: Driver, openai_server: OpenAIServer
) -> None:
    openai_server.replies["You come back."] = [{"text": "Here."}]
    openai_server.first = [{"status": 503, "message": "busy"}] * 4
    env = {"OPENAI_BASE_URL": openai_server.url, "OPENAI_API_KEY": "sk-cloud"}
    agent = await driver.stigmer.agent("You come back.")
    execution = await driver.stigmer.execute(agent, "Go", model="openai:test", env=env)
    status = await driver.status(await driver.drive(execution))

    assert (phase(status), said(status)) == ("EXECUTION_COMPLETED", ["Here."])


async def test_an_execution_that_is_gone_fails(driver: Driver) -> None:
    execution: Any = descriptors.message_type(EXECUTION)()
    execution.metadata.id, execution.spec.session_id = "aex-00000000000000000000000000", "ses-0"
    status = await driver.status(await driver.drive(execution))
    assert phase(status) == "EXECUTION_FAILED"


async def test_what_is_no_execution_is_refused_without_being_quoted(driver: Driver) -> None:
    with pytest.raises(ActivityFailureError) as failed:
        await driver.client.execute_activity(
            "ExecuteGraphton",
            args=[{"spec": {"message": 7}}, "thread-ses-1"],
            id=uuid.uuid4().hex,
            task_queue=driver.stigmer.stack.queue,
            start_to_close_timeout=timedelta(seconds=30),
        )
    assert str(failed.value.cause) == f"InvalidExecution: the argument is no {EXECUTION} in proto-JSON (ParseError)"


async def test_turns_of_one_session_are_taken_in_their_order_and_remember(
    driver: Driver, openai_server: OpenAIServer
) -> None:
    openai_server.replies["You remember."] = [{"text": "Yes."}]
    options: dict[str, Any] = {"model": "openai:test"}
    options["env"] = {"OPENAI_BASE_URL": openai_server.url, "OPENAI_API_KEY": "sk-cloud"}
    openai_server.hold_at = 0
    first = await driver.stigmer.execute(await driver.stigmer.agent("You remember."), "one", **options)
    one = await driver.drive(first)
    assert await asyncio.to_thread(openai_server.held.wait, 60)
    second = await driver.stigmer.execute("", "two", session=first.spec.session_id, **options)
    two = await driver.drive(second)
    await driver.stigmer.follow(second.metadata.id, lambda status: first.metadata.id in status.status_reason)
    openai_server.release.set()
    assert [phase(await driver.status(each)) for each in (one, two)] == ["EXECUTION_COMPLETED"] * 2
    said = [message["content"] for message in openai_server.calls[1]["messages"] if message["role"] == "user"]
    assert said == ["one", "two"]


async def test_people_decide_while_the_activity_waits(driver: Driver) -> None:
    text = "turns: [{tool_calls: [{name: write_file, args: {file_path: /a, content: a}}]}, {text: 'It is: $result'}]"
    execution = await start(driver.stigmer, text, approvalPolicies=[{"tool": "write_file"}])
    handle = await driver.drive(execution)
    waiting = "EXECUTION_WAITING_FOR_APPROVAL"
    seen = await driver.stigmer.follow(execution.metadata.id, lambda status: phase(status) == waiting)
    decision = {"id": execution.metadata.id, "toolCallId": seen[-1].tool_calls[0].id}
    await driver.stigmer.call(CONTROL, "submitApproval", {**decision, "action": "APPROVAL_ACTION_APPROVE"})
    status = await driver.status(handle)

    assert phase(status) == "EXECUTION_COMPLETED"
    assert enum_name(status.tool_calls[0], "status") == "TOOL_CALL_COMPLETED"


async def test_a_turn_that_nobody_decides_on_fails_before_the_activity_is_over(driver: Driver) -> None:
    text = "turns: [{tool_calls: [{name: write_file, args: {file_path: /a, content: a}}]}, {text: Never.}]"
    execution = await start(driver.stigmer, text, approvalPolicies=[{"tool": "write_file"}])
    status = await driver.status(await driver.drive(execution, limit=5))

    assert phase(status) == "EXECUTION_FAILED"
    assert "Nobody decided" in status.error


async def test_a_turn_that_takes_too_long_fails_before_the_activity_is_over(driver: Driver) -> None:
    execution = await start(driver.stigmer, "turns: [{text: Late., delay: 60}]")
    status = await driver.status(await driver.drive(execution, limit=5))

    assert phase(status) == "EXECUTION_FAILED"
    assert "took longer" in status.error


async def test_a_cancelled_turn_stops_and_says_so(driver: Driver) -> None:
    execution = await start(driver.stigmer, "turns: [{text: Late., delay: 60}]")
    handle = await driver.drive(execution)
    await driver.stigmer.follow(execution.metadata.id, lambda status: phase(status) == "EXECUTION_IN_PROGRESS")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        async with asyncio.timeout(30):
            await handle.result()

    assert phase(await driver.stigmer.finish(execution.metadata.id)) == "EXECUTION_CANCELLED"


async def test_threads_are_named_after_sessions_or_made_for_agents(driver: Driver) -> None:
    async def ensure(session: str, agent: str) -> str:
        return await driver.client.execute_activity(
            "EnsureThread",
            args=[session, agent],
            id=uuid.uuid4().hex,
            task_queue=driver.stigmer.stack.queue,
            start_to_close_timeout=timedelta(seconds=30),
            result_type=str,
        )

    assert await ensure("ses-1", "agt-1") == "thread-ses-1"
    head, _, tail = (await ensure("", "agt-1")).rpartition("-")
    assert (head, len(tail), int(tail, 16) >= 0) == ("ephemeral-agt-1", 8, True)


async def test_a_workspace_is_removed_as_often_as_one_likes(driver: Driver) -> None:
    text = "turns: [{tool_calls: [{name: write_file, args: {file_path: /a, content: a}}]}, {text: Done.}]"
    execution = await start(driver.stigmer, text)
    await driver.status(await driver.drive(execution))
    root = driver.stigmer.stack.data / "workspaces"
    before = _folders(root)
    for _ in range(2):
        await driver.client.execute_activity(
            "CleanupSandbox",
            execution.spec.session_id,
            id=uuid.uuid4().hex,
            task_queue=driver.stigmer.stack.queue,
            start_to_close_timeout=timedelta(seconds=30),
        )
    assert len(before - _folders(root)) == 1


def _folders(root: Path) -> set[str]:
    return {folder.name for folder in root.iterdir()}


async def test_a_killed_worker_fails_the_one_attempt_and_nothing_hangs(temporal: str, tmp_path: Path) -> None:
    async with (
        run_stack(tmp_path / "stack", temporal, TEMPORAL_HOST_PORT="127.0.0.1:1") as stack,
        client_of(stack) as stigmer,
        driver_of(stigmer) as driver,
    ):
        runner = await stack.start_runner()
        execution = await start(stigmer, "conversations: [{when: Go, turns: [{text: Late., delay: 60}]}]")
        handle = await driver.drive(execution, heartbeat=4)
        await stigmer.follow(execution.metadata.id, lambda status: phase(status) == "EXECUTION_IN_PROGRESS")
        runner.send_signal(signal.SIGKILL)
        await runner.wait()
        with pytest.raises(WorkflowFailureError):
            async with asyncio.timeout(60):
                await handle.result()
        status = await stigmer.finish(execution.metadata.id)
        assert phase(status) == "EXECUTION_FAILED"
        # The session goes on with another worker.
        await stack.start_runner()
        again = await start(stigmer, "turns: [{text: Back.}]", "Again", session=execution.spec.session_id)
        status = await driver.status(await driver.drive(again))
        assert (phase(status), said(status)) == ("EXECUTION_COMPLETED", ["Back."])


async def test_where_further_attempts_are_allowed_another_worker_goes_on(
    temporal: str, tmp_path: Path, openai_server: OpenAIServer
) -> None:
    openai_server.replies["You go on."] = [{"text": "One.", "tool_calls": [("ls", {"path": "/"})]}, {"text": "Two."}]
    openai_server.hold_at = 1
    async with (
        run_stack(tmp_path / "stack", temporal, TEMPORAL_HOST_PORT="127.0.0.1:1") as stack,
        client_of(stack) as stigmer,
        driver_of(stigmer) as driver,
    ):
        runner = await stack.start_runner()
        env = {"OPENAI_BASE_URL": openai_server.url, "OPENAI_API_KEY": "sk-cloud"}
        agent = await stigmer.agent("You go on.")
        execution = await stigmer.execute(agent, "Go", model="openai:test", env=env)
        handle = await driver.drive(execution, heartbeat=4, attempts=2)
        assert await asyncio.to_thread(openai_server.held.wait, 60)
        runner.send_signal(signal.SIGKILL)
        await runner.wait()
        openai_server.release.set()
        await stack.start_runner()
        status = await driver.status(handle)

    assert (phase(status), said(status)) == ("EXECUTION_COMPLETED", ["One.", "Two."])
    assert len(openai_server.calls) == 3, "only the call in flight was made again"


async def test_a_server_that_knows_the_contract_only_can_drive_a_turn(
    temporal: str, tmp_path: Path, openai_server: OpenAIServer
) -> None:
    openai_server.replies["You are plain."] = [
        {"text": "One.", "tool_calls": [("write_file", {"file_path": "/a.txt", "content": "a"})]},
        {"text": "Two."},
    ]
    async with (
        run_stack(tmp_path / "stack", temporal, TEMPORAL_HOST_PORT="127.0.0.1:1") as stack,
        contract_server(stack.address) as plain,
        client_of(stack) as stigmer,
        driver_of(stigmer) as driver,
    ):
        await stack.start_runner(STIGMER_BACKEND_ENDPOINT=plain.address)
        env = {"OPENAI_BASE_URL": openai_server.url, "OPENAI_API_KEY": "sk-plain"}
        skill = {"scope": 2, "org": "local", "kind": 43, "slug": "plain"}
        await stigmer.call("skill.v1.SkillCommandController", "push", _plain_skill())
        agent = await stigmer.agent("You are plain.", skillRefs=[skill])
        execution = await stigmer.execute(agent, "Go", model="openai:test", env=env)
        status = await driver.status(await driver.drive(execution))
        (unpacked,) = (stack.data / "skills").iterdir()

    assert (phase(status), said(status)) == ("EXECUTION_COMPLETED", ["One.", "Two."])
    assert (unpacked / "SKILL.md").read_text() == "# Plain\nBe plain.\n", "its archive came whole"
    assert set(openai_server.keys) == {"Bearer sk-plain"} or set(openai_server.keys) == {"sk-plain"}
    phases = [enum_name(report.status, "phase") for report in plain.reports]
    assert (phases[0], phases[-1]) == ("EXECUTION_IN_PROGRESS", "EXECUTION_COMPLETED")


def _plain_skill() -> dict[str, Any]:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("SKILL.md", "# Plain\nBe plain.\n")
    return {"name": "plain", "scope": 2, "org": "local", "artifact": base64.b64encode(data.getvalue()).decode()}
