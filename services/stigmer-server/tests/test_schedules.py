"""Schedules of workflows: what a definition says is kept, told to Temporal, and starts each execution once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError, InvalidArgumentError, NotFoundError

from stigmer_server.engine.port import AwayError, Runs
from stigmer_server.engine.testing import MemoryRuns
from stigmer_server.messages import value_to_plain
from stigmer_server.testing import Api, manifest, serve

EVENTS = "ai.stigmer.events.v1.EventController"
SCHEDULES = "ai.stigmer.schedules.v1.ScheduleController"
KIND = "workflow_execution"
HEADER = "document: {dsl: 1.0.0, namespace: tests, name: NAME, version: 0.1.0}\n"
FILTERS = ", ".join(f"{{with: {{type: {kind}}}, correlate: {{o: {{from: .data.id}}}}}}" for kind in "ab")


async def call(api: Api, method: str, **request: Any) -> Any:
    return await api.channel.service(SCHEDULES).unary(method, request)


async def apply(api: Api, schedule: str, name: str = "timed", more: str = "") -> Any:
    text = (
        HEADER.replace("NAME", name)
        + (f"schedule: {schedule}\n" if schedule else "")
        + more
        + "do:\n- a: {set: {n: 1}}"
    )
    return await api("workflow", "apply", manifest("workflow", name, {"definition": text}))


async def publish(api: Api, *events: tuple[str, Any]) -> None:
    made = [{"source": "/shop", "type": kind, "jsonData": data} for kind, data in events]
    await api.channel.service(EVENTS).unary("publish", {"org": "local", "events": made})


async def started(api: Api, workflow: Any, number: int) -> list[Any]:
    """Wait until the workflow has so many executions; return them, oldest first."""
    return await until(lambda: _executions(api, workflow), lambda found: len(found) >= number)


async def _executions(api: Api, workflow: Any) -> list[Any]:
    listed = await api(KIND, "listByWorkflow", {"workflowId": workflow.metadata.id})
    return [*listed.entries][::-1]


async def until(look: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(20):
        while True:
            found = await look()
            if holds(found):
                return found
            await asyncio.sleep(0.02)


@asynccontextmanager
async def timed(folder: Path, runs: MemoryRuns | None = None) -> AsyncGenerator[tuple[Api, MemoryRuns]]:
    made = runs or MemoryRuns()

    async def connect() -> Runs:
        return made

    async with serve(folder, connect_engine=connect) as api:
        yield api, made


async def kept(runs: MemoryRuns, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        return runs.timers

    return await until(look, holds)


@pytest.mark.requirement("schedule.cron", "schedule.every")
async def test_temporal_is_told_of_what_time_starts_and_of_every_change(tmp_path: Path) -> None:
    async with timed(tmp_path) as (api, runs):
        workflow = await apply(api, "{cron: '0 8 * * 1'}")
        id = workflow.metadata.id
        assert (await kept(runs, bool))[id].cron == "0 8 * * 1"
        await apply(api, "{every: PT5M}")
        timers = await kept(runs, lambda found: found[id].every == 300)
        assert timers[id].cron == ""
        assert (await call(api, "list", org="local")).entries[0].triggers == ["every PT5M"]
        await call(api, "pause", workflow_id=id, reason="holidays")
        assert (await kept(runs, lambda found: found[id].paused))[id].reason == "holidays"
        await call(api, "resume", workflow_id=id)
        await kept(runs, lambda found: not found[id].paused)
        await apply(api, "")
        await kept(runs, lambda found: not found)
        assert not (await call(api, "list", org="local")).entries
        await apply(api, "{every: {hours: 1}}")
        await kept(runs, bool)
        await api("workflow", "delete", {"value": id})
        await kept(runs, lambda found: not found)


async def test_what_temporal_missed_or_lost_it_is_told_when_it_is_back(tmp_path: Path) -> None:
    async def away() -> Runs:
        raise AwayError("away")

    async with serve(tmp_path, connect_engine=away) as api:
        workflow = await apply(api, "{every: PT1H}")
        gone = await apply(api, "{every: PT2H}", "gone")
        await api("workflow", "delete", {"value": gone.metadata.id})
    runs = MemoryRuns()
    runs.timers[gone.metadata.id] = runs.timers["x"] = None  # type: ignore[assignment]
    async with timed(tmp_path, runs):
        await kept(runs, lambda found: workflow.metadata.id in found and gone.metadata.id not in found)


@pytest.mark.requirement("schedule.started")
async def test_a_moment_starts_one_execution_however_often_it_comes(local: Api) -> None:
    workflow = await apply(local, "{cron: '* * * * *'}")
    moment = {
        "workflow_id": workflow.metadata.id,
        "key": "k-2026-01-01T08:00:00Z",
        "scheduled_at": "2026-01-01T08:00:00Z",
    }
    answers = await asyncio.gather(*(call(local, "fire", **moment) for _ in range(10)))
    (execution,) = await started(local, workflow, 1)
    assert {answer.execution_id for answer in answers} == {execution.metadata.id}
    assert dict(execution.spec.trigger_metadata) == {
        "trigger": "schedule",
        "schedule": "cron",
        "scheduled_at": "2026-01-01T08:00:00Z",
    }
    (schedule,) = (await call(local, "list", org="local")).entries
    assert (schedule.started, schedule.last_execution_id) == (1, execution.metadata.id)
    await call(local, "pause", workflow_id=workflow.metadata.id)
    assert not (await call(local, "fire", **{**moment, "key": "next"})).execution_id
    assert (await call(local, "trigger", workflow_id=workflow.metadata.id)).execution_id
    assert len(await _executions(local, workflow)) == 2


@pytest.mark.requirement("schedule.after")
async def test_after_the_end_of_an_execution_the_next_follows_once(tmp_path: Path) -> None:
    async with timed(tmp_path) as (api, runs):
        workflow = await apply(api, "{after: {seconds: 90}}")
        first = (await call(api, "trigger", workflow_id=workflow.metadata.id)).execution_id
        await api(KIND, "updateStatus", {"executionId": first, "status": {"phase": "EXECUTION_COMPLETED"}})

        async def later() -> dict[Any, float]:
            return runs.later

        ((workflow_id, key),) = await until(later, bool)
        assert (workflow_id, key) == (workflow.metadata.id, f"after/{first}/0")
        assert 60 < runs.later[workflow_id, key] <= 90
        answers = [await call(api, "fire", workflow_id=workflow_id, key=key) for _ in range(2)]
        assert len({answer.execution_id for answer in answers}) == 1
        second = answers[0].execution_id
        assert len(await _executions(api, workflow)) == 2
        assert not (await call(api, "fire", workflow_id=workflow_id, key="after/other/0")).execution_id
        await api(KIND, "cancel", {"id": second})
        assert len(runs.later) == 1


@pytest.mark.requirement("schedule.on", "schedule.read", "schedule.event-input")
async def test_each_event_that_is_meant_starts_an_execution_with_it(local: Api) -> None:
    await publish(local, ("order", {"n": 0}))
    workflow = await apply(local, "{on: {one: {with: {type: order, data: '${ .n < 9 }'}}}, read: envelope}")
    await publish(local, ("order", {"n": 1}), ("other", {}), ("order", {"n": 9}), ("order", {"n": 2}))
    found = await started(local, workflow, 2)
    inputs = [value_to_plain(one.spec.input) for one in found]
    assert [[event["data"]["n"] for event in events] for events in inputs] == [[1], [2]]
    await publish(local, ("order", {"n": 3}))
    assert len(await started(local, workflow, 3)) == 3


@pytest.mark.requirement("flow.depth")
@pytest.mark.parametrize(("said", "depth"), [({}, "1"), ({"stigmerdepth": "4"}, "5"), ({"stigmerdepth": "many"}, "1")])
async def test_an_execution_tells_how_many_runs_led_to_the_event_that_started_it(
    local: Api, said: dict[str, str], depth: str
) -> None:
    workflow = await apply(local, "{on: {one: {with: {type: led}}}}")
    event = {"id": "1", "source": "/test", "spec_version": "1.0", "type": "led", "extensions": said}
    await local.channel.service(EVENTS).unary("publish", {"org": "local", "events": [event]})
    (found,) = await started(local, workflow, 1)
    assert found.metadata.labels["stigmer.ai/call-depth"] == depth


@pytest.mark.requirement("schedule.read")
@pytest.mark.parametrize(("read", "given"), [("read: data", [{"n": 1}]), ("read: raw", ['{"n":1}']), ("", [{"n": 1}])])
async def test_what_is_read_of_an_event_is_the_input(local: Api, read: str, given: list[Any]) -> None:
    workflow = await apply(local, f"{{on: {{one: {{with: {{type: t}}}}}}{', ' * bool(read)}{read}}}")
    await publish(local, ("t", {"n": 1}))
    assert value_to_plain((await started(local, workflow, 1))[0].spec.input) == given


@pytest.mark.requirement("schedule.on", "schedule.event-input")
async def test_all_events_of_one_combination_start_one_execution(local: Api) -> None:
    workflow = await apply(local, f"{{on: {{all: [{FILTERS}]}}}}")
    await publish(local, ("a", {"id": 1}), ("a", {"id": 2}), ("b", {"id": 2}), ("b", {"id": 3}))
    (first,) = await started(local, workflow, 1)
    assert value_to_plain(first.spec.input) == [{"id": 2}, {"id": 2}]
    await publish(local, ("b", {"id": 1}))
    assert value_to_plain((await started(local, workflow, 2))[1].spec.input) == [{"id": 1}, {"id": 1}]


async def test_events_are_collected_until_a_condition_holds(local: Api) -> None:
    workflow = await apply(local, "{on: {any: [{with: {type: t}}], until: '. | length == 3'}}")
    await publish(local, *(("t", number) for number in range(7)))
    inputs = [value_to_plain(one.spec.input) for one in await started(local, workflow, 2)]
    assert inputs == [[0, 1, 2], [3, 4, 5]]


async def test_events_are_heard_once_across_restarts_and_not_while_paused(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        workflow = await apply(api, "{on: {any: [{with: {type: t}}]}}")
        await publish(api, *(("t", number) for number in range(120)))
    async with serve(tmp_path) as api:
        listed = lambda: call(api, "list", org="local")  # noqa: E731 - read again and again
        await until(listed, lambda found: found.entries[0].started == 120)
        await call(api, "pause", workflow_id=workflow.metadata.id)
        await publish(api, ("t", 120))
        await call(api, "resume", workflow_id=workflow.metadata.id)
        await publish(api, ("t", 121))
        await until(listed, lambda found: found.entries[0].started == 121)


async def test_what_cannot_be_started_is_said(local: Api) -> None:
    more = "input: {schema: {format: json, document: {type: object}}}\n"
    workflow = await apply(local, "{on: {one: {with: {type: t}}}}", more=more)
    await publish(local, ("t", 1))
    (schedule,) = (await until(lambda: call(local, "list", org="local"), lambda found: found.entries[0].error)).entries
    assert "schema" in schedule.error
    assert schedule.started == 0
    spec = {"definition": workflow.spec.definition, "envSpec": {"data": {"TOKEN": {"isSecret": True}}}}
    needy = await local("workflow", "create", manifest("workflow", "needy", spec))
    with pytest.raises(FailedPreconditionError, match="TOKEN"):
        await call(local, "trigger", workflow_id=needy.metadata.id)


@pytest.mark.requirement("schedule")
@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("{every: PT0.1S}", "/schedule/every"),
        ("{on: {any: [], until: {one: {with: {type: t}}}}}", "/schedule/on/until"),
        ("{on: {one: {with: {type: signal, id: x}}}}", "/schedule/on"),
        ("{on: {one: {with: {type: '${ $input.kind.x }', source: '${ error(\"no\") }'}}}}", "/schedule/on"),
        ("{cron: often}", "/schedule/cron"),
    ],
)
async def test_schedules_that_cannot_be_kept_are_refused(local: Api, schedule: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        await apply(local, schedule)


async def test_a_workflow_without_schedule_has_none_to_control(local: Api) -> None:
    workflow = await apply(local, "")
    for method in ("pause", "resume", "trigger"):
        with pytest.raises(NotFoundError):
            await call(local, method, workflow_id=workflow.metadata.id)
