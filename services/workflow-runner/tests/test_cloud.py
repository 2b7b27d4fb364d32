"""A server that drives the runner with workflows of its own, as the contract describes it."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from stigmer_protos import descriptors
from stigmer_runner.contract_testing import contract_server
from stigmer_server.testing import Api, ServerProcess, manifest
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RawValue, RetryPolicy
from temporalio.worker import Worker
from workflow_runner import names
from workflow_runner.cloud import CloudRuns
from workflow_runner.settings import Settings
from workflow_runner.testing import RunnerProcess, Site, StartRunner
from workflow_runner.worker import serve

TYPE = "stigmer/workflow-execution/invoke"
EXECUTION = "ai.stigmer.agentic.workflowexecution.v1.WorkflowExecution"
SPEC = "ai.stigmer.agentic.workflow.v1.WorkflowSpec"
VALIDATION = "ai.stigmer.agentic.workflow.v1.serverless.ServerlessWorkflowValidation"
DOCUMENT = {"dsl": "1.0.0", "namespace": "test", "name": "test", "version": "1.0.0"}
GREET = {"name": "greet", "kind": "WORKFLOW_TASK_KIND_SET", "taskConfig": {"variables": {"greeting": "hello"}}}
LATER = {"name": "later", "kind": "WORKFLOW_TASK_KIND_WAIT", "taskConfig": {"seconds": 60}}


def raw(message: Any) -> RawValue:
    """A message as that server's converter writes it."""
    data = json_format.MessageToJson(message, descriptor_pool=descriptors.pool()).encode()
    return RawValue(
        Payload(
            metadata={"encoding": b"json/protobuf", "messageType": message.DESCRIPTOR.full_name.encode()}, data=data
        )
    )


def read(result: RawValue, name: str) -> Any:
    """A result, read as strictly as that server reads it."""
    assert result.payload.metadata["messageType"] == name.encode()
    assert "1000" not in json.loads(result.payload.data)
    return json_format.Parse(result.payload.data, descriptors.message_type(name)())


@workflow.defn(name=TYPE, sandboxed=False)
class ServersWorkflow:
    """What such a server runs for an execution."""

    @workflow.run
    async def run(self, execution: RawValue) -> RawValue:
        heartbeat: float = workflow.memo_value("heartbeatSeconds", type_hint=float)
        return await workflow.execute_activity(
            "ExecuteWorkflow",
            execution,
            result_type=RawValue,
            task_queue=workflow.memo_value("activityTaskQueue", type_hint=str),
            start_to_close_timeout=timedelta(seconds=workflow.memo_value("limitSeconds", type_hint=float)),
            heartbeat_timeout=timedelta(seconds=heartbeat) if heartbeat else None,
            retry_policy=RetryPolicy(maximum_attempts=workflow.memo_value("attempts", type_hint=int)),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


@workflow.defn(name="ValidateWorkflow", sandboxed=False)
class ServersValidation:
    """What such a server runs for a workflow that it is to store."""

    @workflow.run
    async def run(self, spec: RawValue) -> RawValue:
        return await workflow.execute_activity(
            "validateWorkflow",
            spec,
            result_type=RawValue,
            task_queue=workflow.memo_value("activityTaskQueue", type_hint=str),
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
        )


class Driver:
    """The server: what it keeps, and its side of Temporal."""

    def __init__(self, api: Api, client: Client) -> None:
        self.api = api
        self.client = client
        self.own = f"workflow_execution_stigmer-{uuid.uuid4().hex[:8]}"
        self.queue = f"workflow_execution_runner-{uuid.uuid4().hex[:8]}"
        self.validations = f"workflow_validation_runner-{uuid.uuid4().hex[:8]}"

    async def create(self, *tasks: Mapping[str, Any], **spec: Any) -> Any:
        name = f"flow-{uuid.uuid4().hex[:12]}"
        stored = await self.api(
            "workflow", "create", manifest("workflow", name, {"document": {**DOCUMENT, "name": name}, "tasks": tasks})
        )
        given = {"workflowId": stored.metadata.id, **spec}
        return await self.api("workflow_execution", "create", manifest("workflow_execution", f"{name}-run", given))

    async def drive(
        self, execution: Any, *, limit: float = 1800, heartbeat: float = 0, attempts: int = 1
    ) -> WorkflowHandle[Any, Any]:
        return await self.client.start_workflow(
            TYPE,
            raw(execution),
            id=f"{TYPE}/{execution.metadata.id}",
            task_queue=self.own,
            memo={
                "activityTaskQueue": self.queue,
                "limitSeconds": limit,
                "heartbeatSeconds": heartbeat,
                "attempts": attempts,
            },
            run_timeout=timedelta(minutes=30),
            result_type=RawValue,
        )

    async def validate(self, spec: Mapping[str, Any]) -> Any:
        message = descriptors.message_type(SPEC)()
        json_format.ParseDict(dict(spec), message, descriptor_pool=descriptors.pool())
        result: RawValue = await self.client.execute_workflow(
            "ValidateWorkflow",
            raw(message),
            id=f"stigmer/workflow-validation/{uuid.uuid4()}",
            task_queue=self.own,
            memo={"activityTaskQueue": self.validations},
            execution_timeout=timedelta(seconds=30),
            result_type=RawValue,
        )
        return read(result, VALIDATION)

    async def status(self, handle: WorkflowHandle[Any, Any]) -> Any:
        async with asyncio.timeout(60):
            return read(await handle.result(), f"{EXECUTION}Status")

    async def until(self, execution: Any, task: str) -> None:
        """Return once a task has been reported."""
        async with asyncio.timeout(60):
            async for state in self.api.stream(
                "workflow_execution", "subscribe", {"executionId": execution.metadata.id}
            ):
                if any(each.task_name == task for each in state.status.tasks):
                    return

    async def stored(self, execution: Any) -> Any:
        return (await self.api("workflow_execution", "get", {"value": execution.metadata.id})).status

    @contextlib.asynccontextmanager
    async def runner(self, address: str, temporal: str) -> AsyncGenerator[None]:
        stop = asyncio.Event()
        settings = Settings.model_validate(
            {
                "temporal_address": temporal,
                "server_address": address,
                "task_queue": self.queue,
                "validation_queue": self.validations,
            }
        )
        task = asyncio.create_task(serve(settings, stop))
        try:
            yield
        finally:
            stop.set()
            await task


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[ServerProcess]:
    """A server that starts no runs."""
    process = ServerProcess(tmp_path)
    await process.ready()
    yield process
    await process.close()


@pytest.fixture
async def undriven(server: ServerProcess, client: Client) -> AsyncGenerator[Driver]:
    """A driver that has no runner."""
    made = Driver(server.client(), client)
    async with Worker(client, task_queue=made.own, workflows=[ServersWorkflow, ServersValidation]):
        yield made


@pytest.fixture
async def driver(undriven: Driver, server: ServerProcess, temporal: str) -> AsyncGenerator[Driver]:
    async with undriven.runner(server.address, temporal):
        yield undriven


async def test_a_run_is_made_and_its_status_given_back(driver: Driver) -> None:
    echo = {"name": "echo", "kind": "WORKFLOW_TASK_KIND_SET", "taskConfig": {"variables": {"said": "${ .greeting }"}}}
    execution = await driver.create(GREET, echo)
    status = await driver.status(await driver.drive(execution))

    assert (status.phase, dict(status.output)) == (3, {"said": "hello"})
    assert [task.task_name for task in status.tasks] == ["greet", "echo"]
    assert status.temporal_workflow_id == f"workflow-exec-{execution.metadata.id}"
    assert not any(field.number >= 1000 for message in (status, *status.tasks) for field, _ in message.ListFields())
    assert (await driver.stored(execution)).phase == 3


async def test_an_attempt_that_comes_while_an_earlier_one_is_told_the_end_is_told_too(
    start_runner: StartRunner, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    telling, go_on = asyncio.Event(), asyncio.Event()

    @activity.defn(name=names.TELL_DRIVER)
    async def tell(_: CloudRuns, end: Any) -> None:
        told.append(end["token"])
        telling.set()
        await go_on.wait()

    monkeypatch.setattr(CloudRuns, "tell", tell)
    runs = await start_runner()
    execution = runs.add("do:\n- x: {set: {n: 1}}")
    invocation = {"execution_id": execution.id, "org": "acme", "driver": {"token": "first", "seconds": None}}
    run = f"{names.DRIVEN}{execution.id}"
    handle = await client.start_workflow(names.WORKFLOW, invocation, id=run, task_queue=runs.queue)
    async with asyncio.timeout(60):
        await telling.wait()
        await handle.signal(names.TOKEN, {"id": names.DRIVER, "token": "second"})
        go_on.set()
        await handle.result()
    assert told == ["first", "second"]


async def test_a_run_that_faults_is_no_failed_activity(driver: Driver) -> None:
    fails = {"name": "fail", "kind": "WORKFLOW_TASK_KIND_RAISE", "taskConfig": {"error": "Broken", "message": "no"}}
    execution = await driver.create(GREET, fails)
    status = await driver.status(await driver.drive(execution))

    assert status.phase == 4
    assert "Broken" in status.error


async def test_a_run_that_takes_too_long_fails_before_the_activity_is_over(driver: Driver) -> None:
    execution = await driver.create(LATER)
    status = await driver.status(await driver.drive(execution, limit=4))

    assert status.phase == 4
    assert "longer" in status.error


async def test_a_cancelled_run_stops_and_says_so(driver: Driver) -> None:
    execution = await driver.create(GREET, LATER)
    handle = await driver.drive(execution)
    await driver.until(execution, "later")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        async with asyncio.timeout(60):
            await handle.result()
    assert (await driver.stored(execution)).phase == 5


async def test_an_execution_that_is_gone_fails(driver: Driver) -> None:
    execution: Any = descriptors.message_type(EXECUTION)()
    execution.metadata.id = "wex-00000000000000000000000000"
    status = await driver.status(await driver.drive(execution))
    assert (status.phase, "does not exist" in status.error) == (4, True)


@pytest.mark.slow
@pytest.mark.parametrize(("heartbeat", "attempts"), [(0, 1), (3, 3)])
async def test_a_killed_runner_is_followed_by_another_whether_or_not_it_is_missed(
    undriven: Driver, server: ServerProcess, temporal: str, tmp_path: Path, heartbeat: float, attempts: int
) -> None:
    runner = RunnerProcess(tmp_path, temporal=temporal, server=server.address, queue=undriven.queue)
    execution = await undriven.create(GREET, {**LATER, "taskConfig": {"seconds": 4}})
    try:
        await runner.start()
        handle = await undriven.drive(execution, heartbeat=heartbeat, attempts=attempts)
        await undriven.until(execution, "later")
        await runner.kill()
        await runner.start()
        status = await undriven.status(handle)
    finally:
        await runner.kill()

    assert (status.phase, [task.task_name for task in status.tasks]) == (3, ["greet", "later"])


async def test_a_server_that_knows_the_contract_only_can_drive_a_run(
    undriven: Driver, server: ServerProcess, temporal: str, site: Site
) -> None:
    site.page("/", [1, 2])
    config = {"method": "GET", "endpoint": {"uri": site.url}, "headers": {"X-Place": "${.env_vars.PLACE}"}}
    ask = {"name": "ask", "kind": "WORKFLOW_TASK_KIND_HTTP_CALL", "taskConfig": config}
    say = {"name": "say", "kind": "WORKFLOW_TASK_KIND_SET"}
    say |= {"taskConfig": {"variables": {"said": "${ $workflow.input.message + .greeting }"}}}
    execution = await undriven.create(ask, GREET, say, triggerMessage="you, ", runtimeEnv={"PLACE": {"value": "there"}})
    async with contract_server(server.address) as plain, undriven.runner(plain.address, temporal):
        status = await undriven.status(await undriven.drive(execution))

    assert (status.phase, dict(status.output)) == (3, {"said": "you, hello"}), status.error
    assert [request.headers["x-place"] for request in site.seen("/")] == ["there"]
    assert [task.task_name for task in status.tasks] == ["ask", "greet", "say"]
    assert dict(status.tasks[0].output) == {"result": [1, 2]}
    assert [len(report.status.tasks) for report in plain.reports if report.status.tasks][-1] == 3


async def test_a_workflow_is_validated_with_all_its_problems(driver: Driver) -> None:
    valid = await driver.validate({"document": DOCUMENT, "tasks": [GREET]})
    assert (valid.state, list(valid.errors)) == (2, [])
    assert "greeting: hello" in valid.yaml
    assert valid.validation_workflow_id.startswith("stigmer/workflow-validation/")
    assert valid.validated_at.seconds

    broken = {**GREET, "taskConfig": {"variables": {"a": "${ .x | }"}}, "flow": {"then": "nowhere"}}
    invalid = await driver.validate({"document": DOCUMENT, "tasks": [broken]})
    assert invalid.state == 3
    assert len(invalid.errors) == 2


async def test_what_the_runner_cannot_do_is_a_warning_of_a_valid_workflow(driver: Driver) -> None:
    task = {"name": "call", "kind": "WORKFLOW_TASK_KIND_CALL_ACTIVITY", "taskConfig": {"activity": "foreign"}}
    validation = await driver.validate({"document": DOCUMENT, "tasks": [task]})
    assert (validation.state, list(validation.errors)) == (2, [])
    assert len(validation.warnings) == 1
