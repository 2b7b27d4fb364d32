"""Activities of other people's workers: a real Temporal worker beside the runner's."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest
from agent_runner import cloud as agent_cloud
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker
from workflow_runner import cloud, validation
from workflow_runner.testing import Runs, StartRunner


@dataclass
class Foreign:
    """A worker of somebody else."""

    queue: str
    charged: list[Any] = field(default_factory=list[Any])
    attempts: int = 0
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name="Charge")
    async def charge(self, order: Any, currency: str = "EUR") -> dict[str, Any]:
        self.charged.append(order)
        return {"order": order, "currency": currency, "task": activity.info().task_queue}

    @activity.defn(name="Fail")
    async def fail(self, kind: str) -> None:
        self.attempts += 1
        raise ApplicationError("no money", {"balance": -1}, type=kind)

    @activity.defn(name="Flaky")
    async def flaky(self) -> int:
        self.attempts += 1
        if self.attempts < 3:
            raise RuntimeError("not yet")
        return self.attempts

    @activity.defn(name="Hold")
    async def hold(self) -> None:
        self.holding.set()
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.let_go.set()
            raise

    @activity.defn(name="Bytes")
    async def give_bytes(self) -> bytes:
        return b"\x00\x01"


@pytest.fixture
async def foreign(client: Client) -> AsyncGenerator[Foreign]:
    made = Foreign(f"foreign-{uuid.uuid4().hex}")
    activities = [made.charge, made.fail, made.flaky, made.hold, made.give_bytes]
    async with Worker(client, task_queue=made.queue, activities=activities):
        yield made


def call(name: str, foreign: Foreign, arguments: str = "[]", options: str = "{}", rest: str = "") -> str:
    with_ = f"name: {name}, taskQueue: {foreign.queue}, arguments: {arguments}"
    return f"do:\n- it: {{call: activity, with: {{{with_}}}, metadata: {{activityOptions: {options}}}{rest}}}"


CONTRACT = (cloud.EXECUTE, validation.VALIDATE, agent_cloud.ENSURE_THREAD, agent_cloud.EXECUTE, agent_cloud.CLEAN_UP)
"""What the runners do for servers that know the contract only, by whatever id they are told."""

ONCE = "{retryPolicy: {maximumAttempts: 1}}"


@pytest.mark.requirement("call.activity")
async def test_an_activity_is_given_its_arguments_and_outputs_its_result(runs: Runs, foreign: Foreign) -> None:
    output = await runs.output(call("Charge", foreign, "['${ .order }', USD]"), {"order": {"id": 7}})
    assert output == {"order": {"id": 7}, "currency": "USD", "task": foreign.queue}


async def test_name_queue_and_arguments_may_be_expressions(runs: Runs, foreign: Foreign) -> None:
    text = """
do:
- it: {call: activity, with: {name: '${ .name }', taskQueue: '${ .queue }', arguments: '${ .all }'}}
"""
    output = await runs.output(text, {"name": "Charge", "queue": foreign.queue, "all": [1, "CHF"]})
    assert (output["order"], output["currency"]) == (1, "CHF")


async def test_bytes_come_as_base64_and_nothing_as_null(runs: Runs, foreign: Foreign) -> None:
    assert await runs.output(call("Bytes", foreign)) == "AAE="


async def test_a_failure_carries_type_message_and_details_and_can_be_caught_by_its_type(
    runs: Runs, foreign: Foreign
) -> None:
    error = await runs.error(call("Fail", foreign, "[CardDeclined]", ONCE))
    assert (error["status"], error["title"], error["instance"]) == (500, "CardDeclined", "/do/0/it")
    assert error["type"].endswith("/errors/runtime")
    assert "no money" in error["detail"]
    assert '{"balance": -1}' in error["detail"]
    inner = call("Fail", foreign, "['https://example.com/declined']", ONCE).removeprefix("do:\n- ")
    caught = f"do:\n- t: {{try: [{{{inner}}}], catch: {{errors: {{with: {{type: 'https://example.com/declined'}}}}}}}}"
    assert await runs.output(caught, {"n": 1}) == {"n": 1}


@pytest.mark.requirement("call.activity")
async def test_an_activity_is_tried_again_as_its_options_say(runs: Runs, foreign: Foreign) -> None:
    fast = "{retryPolicy: {initialInterval: {milliseconds: 10}, maximumAttempts: 3}}"
    assert await runs.output(call("Flaky", foreign, options=fast)) == 3
    final = "{retryPolicy: {initialInterval: {milliseconds: 10}, nonRetryableErrorTypes: [Broken]}}"
    foreign.attempts = 0
    await runs.error(call("Fail", foreign, "[Broken]", final))
    assert foreign.attempts == 1


async def test_options_of_the_document_hold_for_all_its_activities(runs: Runs, foreign: Foreign) -> None:
    header = f"document: {{dsl: 1.0.3, namespace: n, name: n, version: 1.0.0, metadata: {{activityOptions: {ONCE}}}}}\n"
    await runs.error(header + call("Fail", foreign, "[Odd]", "{summary: charging}"))
    assert foreign.attempts == 1


async def test_an_activity_that_nobody_takes_or_that_lasts_times_out(runs: Runs, foreign: Foreign) -> None:
    nobody = Foreign(f"nobody-{uuid.uuid4().hex}")
    error = await runs.error(call("Charge", nobody, options="{scheduleToStartTimeout: PT0.2S}"))
    assert (error["status"], "no worker took it" in error["detail"]) == (408, True)
    lasting = "{startToCloseTimeout: PT0.2S, heartbeatTimeout: PT5S, retryPolicy: {maximumAttempts: 1}}"
    error = await runs.error(call("Hold", foreign, options=lasting))
    assert (error["status"], "took too long" in error["detail"]) == (408, True)


async def test_the_timeout_of_the_task_cancels_its_activity(runs: Runs, foreign: Foreign) -> None:
    options = "{heartbeatTimeout: PT1S}"
    error = await runs.error(call("Hold", foreign, options=options, rest=", timeout: {after: PT0.3S}"))
    assert error["status"] == 408
    async with asyncio.timeout(30):
        await foreign.let_go.wait()


async def test_a_cancelled_run_cancels_its_activity(runs: Runs, foreign: Foreign) -> None:
    execution = runs.add(call("Hold", foreign, options="{heartbeatTimeout: PT1S}"))
    handle = await runs.start(execution)
    async with asyncio.timeout(30):
        await foreign.holding.wait()
        await runs.peer.until(execution, lambda seen: "/do/0/it" in seen.reported)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        await foreign.let_go.wait()
    assert execution.phase == "CANCELLED"


async def test_a_secret_is_refused_as_argument_when_the_workflow_is_read_and_when_it_came_by_data(
    runs: Runs, foreign: Foreign
) -> None:
    error = await runs.error("use: {secrets: [TOKEN]}\n" + call("Charge", foreign, "['${ $secrets.TOKEN }']"))
    assert "/do/0/it/with/arguments/0" in error["detail"]
    assert "would stand in history" in error["detail"]
    through = call("Charge", foreign, "['${ .token }']").removeprefix("do:\n")
    text = f"use: {{secrets: [TOKEN]}}\ndo:\n- hold: {{set: {{token: '${{ $secrets.TOKEN }}'}}}}\n{through}"
    error = await runs.error(text, secrets={"TOKEN": "tok-1234"})
    assert (error["status"], "hold TOKEN" in error["detail"]) == (403, True)
    assert foreign.charged == []


@pytest.mark.parametrize(
    ("task", "pointer", "said"),
    [
        ("with: {name: stigmer/workflow-execution/load, taskQueue: q}", "/with/name", "Stigmer's own"),
        ("with: {name: ExecuteWorkflow, taskQueue: q}", "/with/name", "Stigmer's own"),
        (
            "with: {name: a, taskQueue: q}, metadata: {activityOptions: {heartbeatTimeout: soon}}",
            "/metadata/activityOptions",
            "heartbeatTimeout",
        ),
        ("with: {name: a}", "/with", "STIGMER_ACTIVITY_TASK_QUEUE"),
    ],
)
async def test_what_cannot_be_run_is_refused_before_anything_is(runs: Runs, task: str, pointer: str, said: str) -> None:
    error = await runs.error(f"do:\n- it: {{call: activity, {task}}}")
    assert f"/do/0/it{pointer}" in error["detail"]
    assert said in error["detail"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "stigmer/workflow-execution/load", "all": []}, "Stigmer's own"),
        *[({"name": name, "all": []}, "Stigmer's own") for name in CONTRACT],
        ({"name": "Charge", "all": 7}, "not an array"),
        ({"name": 7, "all": []}, "not a text"),
        ({"name": "Charge", "all": ["x" * 1_900_000]}, "can be kept"),
    ],
)
async def test_what_turns_out_wrong_at_run_time_is_a_clear_error(
    runs: Runs, foreign: Foreign, data: dict[str, Any], said: str
) -> None:
    with_ = f"name: '${{ .name }}', taskQueue: {foreign.queue}, arguments: '${{ .all }}'"
    text = f"do:\n- it: {{call: activity, with: {{{with_}}}}}"
    assert said in (await runs.error(text, data))["detail"]


async def test_the_operator_may_name_the_queue_of_activities_that_name_none(
    start_runner: StartRunner, foreign: Foreign
) -> None:
    runs = await start_runner(activity_task_queue=foreign.queue)
    output = await runs.output("do:\n- it: {call: activity, with: {name: Charge, arguments: [1]}}")
    assert output["task"] == foreign.queue
