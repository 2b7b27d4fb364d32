"""What the server is told of a run, and when."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stigmer_runner import read_value
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Replayer
from workflow_runner import names
from workflow_runner.activities import Reporting
from workflow_runner.messages import Report
from workflow_runner.testing import PeerServer, Request, Response, Runs, Site, StartRunner
from workflow_runner.workflow import InvokeWorkflow


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


@pytest.mark.requirement("report.tasks")
async def test_every_task_is_reported_with_all_there_is_to_know(runs: Runs, site: Site) -> None:
    before = datetime.now(UTC)
    site.page("/pet", {"name": "Rex"})
    execution = await runs.run(
        f"""
do:
- outer:
    do:
    - fetch: {{call: http, with: {{method: get, endpoint: {site.url}/pet}}}}
    - number: {{set: '${{ 3 }}'}}
- skipped: {{if: 'false', set: {{n: 1}}}}
""",
        {"in": 1},
    )
    fetch = execution.reported["/do/0/outer/do/0/fetch"]
    assert (fetch.task_name, fetch.kind, fetch.reference) == ("fetch", "call http", "/do/0/outer/do/0/fetch")
    assert (fetch.task_type, fetch.parent_id, fetch.attempt) == (3, "/do/0/outer", 1)
    assert not fetch.HasField("iteration")
    assert fetch.input.fields["in"].number_value == 1
    assert fetch.output.fields["name"].string_value == "Rex"
    assert fetch.output_value.struct_value == fetch.output
    assert before <= moment(fetch.started_at) <= moment(fetch.completed_at) <= datetime.now(UTC)
    number = execution.reported["/do/0/outer/do/1/number"]
    assert not number.HasField("output")
    assert number.output_value.number_value == 3
    assert execution.reported["/do/1/skipped"].status == 5
    status = execution.status
    assert moment(status.started_at) <= moment(status.completed_at)
    assert status.temporal_workflow_id.endswith(execution.id)


async def test_people_see_a_run_in_progress_and_what_it_waits_for(runs: Runs, peer: PeerServer, site: Site) -> None:
    let_go = asyncio.Event()

    async def slow(_: Request) -> Response:
        await let_go.wait()
        return Response({"ok": True})

    site.page("/slow", slow)
    execution = runs.add(
        f"do:\n- first: {{set: {{n: 1}}}}\n- call: {{call: http, with: {{method: get, endpoint: {site.url}/slow}}}}"
    )
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: "/do/1/call" in seen.reported)
    assert execution.phase == "IN_PROGRESS"
    assert execution.reported["/do/1/call"].status == 2
    assert execution.reported["/do/0/first"].status == 3
    let_go.set()
    await handle.result()
    assert execution.reported["/do/1/call"].status == 3


async def test_a_call_too_slow_for_a_local_activity_is_made_by_an_ordinary_one(
    start_runner: StartRunner, site: Site
) -> None:
    runs = await start_runner(local_call_seconds=0.2)

    async def slow(_: Request) -> Response:
        await asyncio.sleep(0.5)
        return Response({"ok": True})

    site.page("/slow", slow)
    assert await runs.output(f"do:\n- c: {{call: http, with: {{method: get, endpoint: {site.url}/slow}}}}") == {
        "ok": True
    }
    assert len(site.seen("/slow")) == 2


@pytest.mark.requirement("control.cancel", "phases")
async def test_a_cancelled_run_is_reported_as_cancelled(runs: Runs, peer: PeerServer) -> None:
    execution = runs.add("do:\n- outer: {do: [{long: {wait: {hours: 1}}}]}")
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: "/do/0/outer/do/0/long" in seen.reported)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert execution.phase == "CANCELLED"
    assert {task.status for task in execution.reported.values()} == {4}


@pytest.mark.requirement("control.cancel")
async def test_a_run_is_cancelled_in_the_middle_of_a_call_and_the_call_is_given_up(
    runs: Runs, peer: PeerServer, site: Site
) -> None:
    async def never(_: Request) -> Response:
        await asyncio.Event().wait()
        return Response({})

    site.page("/slow", never)
    for method in ("get", "post"):
        execution = runs.add(f"do:\n- c: {{call: http, with: {{method: {method}, endpoint: {site.url}/slow}}}}")
        handle = await runs.start(execution)
        await peer.until(execution, lambda seen: bool(seen.reported))
        await handle.cancel()
        await peer.until(execution, lambda seen: seen.phase == "CANCELLED")


@pytest.mark.requirement("report.order")
async def test_nothing_is_lost_when_the_server_is_away(runs: Runs, peer: PeerServer, site: Site) -> None:
    let_go = asyncio.Event()

    async def slow(_: Request) -> Response:
        await let_go.wait()
        return Response({"ok": True})

    site.page("/slow", slow)
    called = asyncio.Event()

    def quick(_: Request) -> Response:
        called.set()
        return Response({"n": 1})

    site.page("/quick", quick)
    steps = "\n".join(f"- pause{index}: {{wait: {{milliseconds: 50}}}}" for index in range(10))
    execution = runs.add(
        f"""
do:
- hold: {{call: http, with: {{method: post, endpoint: {site.url}/slow}}}}
{steps}
- last: {{call: http, with: {{method: get, endpoint: {site.url}/quick}}}}
"""
    )
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: "/do/0/hold" in seen.reported)
    address = peer.address
    await peer.stop()
    let_go.set()
    # The run goes on without the server: its last call is made while nobody can be told of it.
    await asyncio.wait_for(called.wait(), 30)
    assert execution.phase == "IN_PROGRESS"
    await peer.start(address)
    await handle.result()
    assert execution.phase == "COMPLETED"
    assert len(execution.reported) == 12
    assert {task.status for task in execution.reported.values()} == {3}
    assert len(site.seen("/slow")) == len(site.seen("/quick")) == 1


async def test_a_run_waits_for_a_server_that_is_not_there_yet(runs: Runs, peer: PeerServer) -> None:
    execution = runs.add("do:\n- x: {set: {n: 1}}")
    address = peer.address
    await peer.stop()
    handle = await runs.start(execution)
    await asyncio.sleep(3)
    await peer.start(address)
    await handle.result()
    assert execution.output == {"n": 1}


async def test_a_large_run_is_reported_in_several_messages(runs: Runs) -> None:
    execution = await runs.run(
        """
do:
- big: {set: {text: '${ [range(20000)] | map("x") | join("") }'}}
- loop: {for: {in: '[range(60)]'}, do: [{keep: {set: '${ . }'}}]}
- small: {set: {n: '${ .text | length }'}}
"""
    )
    assert execution.output == {"n": 20000}
    assert len(execution.reported) == 63
    assert all(update.ByteSize() < 4_000_000 for update in execution.updates)
    assert len(execution.updates) > 2


async def test_what_is_nested_too_deep_for_a_message_is_shown_in_part_and_the_output_is_kept_whole(
    runs: Runs, site: Site, peer: PeerServer
) -> None:
    deep = "[" * 60 + "]" * 60
    site.page("/deep", Response(deep.encode()))
    peer.children.workflows["echo"] = (
        "document: {dsl: 1.0.3, namespace: test, name: echo, version: 1.0.0}\ndo:\n- back: {set: '${ . }'}\n"
    )
    execution = await runs.run(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/deep}}}}
- child: {{run: {{workflow: {{namespace: test, name: echo, input: '${{ . }}'}}}}}}
"""
    )
    assert execution.phase == "COMPLETED", execution.error
    assert json.dumps(runs.whole(execution)) == deep
    shown = read_value(execution.reported["/do/0/fetch"].output_value)
    assert shown == {"$truncated": {"bytes": 120, "preview": [[[[["… (1 items)"]]]]]}}
    assert execution.output == shown


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("call: http, with: {method: get, endpoint: SITE/deep}", "the answer cannot be kept: it is nested too deep"),
        ("set: {x: '${ reduce range(300) as $i (0; [.]) }'}", "its result is nested more than 200 deep"),
        ("set: {x: '${ reduce range(9000) as $i (0; [.]) }'}", "its result is nested more than 200 deep"),
        (
            "emit: {event: {with: {type: a, data: '${ reduce range(40) as $i (0; {a: .}) }'}}}",
            "the event's data is nested too deep",
        ),
    ],
)
async def test_what_is_nested_too_deep_to_be_kept_is_a_clear_error(
    runs: Runs, site: Site, task: str, said: str
) -> None:
    site.page("/deep", Response(("[" * 300 + "]" * 300).encode()))
    error = await runs.error(f"do:\n- it: {{{task.replace('SITE', site.url)}}}")
    assert said in error["detail"]
    assert error["instance"] == "/do/0/it"


async def test_a_run_lets_go_between_expressions_that_may_take_long(runs: Runs) -> None:
    execution = runs.add("do:\n- all: {for: {in: '[range(45)]'}, do: [{one: {set: {x: '${ \"a\" | test(\"a\") }'}}}]}")
    handle = await runs.start(execution)
    await handle.result()
    kinds = [event.event_type async for event in handle.fetch_history_events()]
    # Loading, telling the end, and four times in between.
    assert kinds.count(EventType.EVENT_TYPE_MARKER_RECORDED) == 6


async def test_a_short_run_takes_one_workflow_task_its_reports_included(runs: Runs, site: Site) -> None:
    site.page("/pet", {"name": "Rex"})
    get = f"{{call: http, with: {{method: get, endpoint: {site.url}/pet}}}}"
    execution = runs.add("do:\n" + "\n".join(f"- get{index}: {get}" for index in range(5)))
    handle = await runs.start(execution)
    await handle.result()
    assert {task.status for task in execution.reported.values()} == {3}
    kinds = [event.event_type async for event in handle.fetch_history_events()]
    assert kinds.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED) == 1
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED not in kinds


async def test_a_report_on_its_way_with_a_call_that_is_given_up_is_given_up_too(
    runs: Runs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling, given_up = asyncio.Event(), asyncio.Event()
    deliver = Reporting.deliver

    async def slow(self: Reporting, report: Report) -> None:
        if report["tasks"] and "phase" not in report:
            telling.set()
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()
        await deliver(self, report)

    async def never(_: Request) -> Response:
        await asyncio.Event().wait()
        return Response({})

    monkeypatch.setattr(Reporting, "deliver", slow)
    site.page("/slow", never)
    execution = runs.add(f"do:\n- c: {{call: http, with: {{method: post, endpoint: {site.url}/slow}}}}")
    handle = await runs.start(execution)
    async with asyncio.timeout(60):
        await telling.wait()
        await handle.cancel()
        await given_up.wait()
    await runs.peer.until(execution, lambda seen: seen.phase == "CANCELLED")


async def test_a_run_that_the_server_was_slow_to_give_away_can_be_replayed(
    runs: Runs, peer: PeerServer, client: Client, site: Site
) -> None:
    peer.gives.clear()
    site.page("/pet", {"name": "Rex"})
    execution = runs.add(f"do:\n- get: {{call: http, with: {{method: get, endpoint: {site.url}/pet}}}}")
    handle = await client.start_workflow(
        names.WORKFLOW,
        {"execution_id": execution.id, "org": "acme"},
        id=f"{names.WORKFLOW}/{execution.id}",
        task_queue=runs.queue,
        task_timeout=timedelta(seconds=2),
    )
    async with asyncio.timeout(60):
        # Meanwhile Temporal is given signs of life, which make the history longer than it is to a replay.
        while (await handle.describe()).history_length < 6:  # noqa: ASYNC110 - Temporal offers no event for it
            await asyncio.sleep(0.1)
        peer.gives.set()
        await handle.result()
    await Replayer(workflows=[InvokeWorkflow]).replay_workflow(await handle.fetch_history())


async def test_a_run_that_is_cancelled_while_its_end_is_told_has_ended(
    runs: Runs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling, go_on = asyncio.Event(), asyncio.Event()
    deliver = Reporting.deliver

    async def slow(self: Reporting, report: Report) -> None:
        if report.get("phase") == "COMPLETED":
            telling.set()
            await go_on.wait()
        await deliver(self, report)

    monkeypatch.setattr(Reporting, "deliver", slow)
    site.page("/pet", {"name": "Rex"})
    get = f"{{call: http, with: {{method: get, endpoint: {site.url}/pet}}}}"
    execution = runs.add(f"do:\n- first: {{wait: {{milliseconds: 1}}}}\n- get: {get}")
    handle = await runs.start(execution)
    async with asyncio.timeout(60):
        await telling.wait()
        steps = await steps_of(handle)
        await handle.cancel()
        while await steps_of(handle) == steps:  # noqa: ASYNC110 - Temporal offers no event for it
            await asyncio.sleep(0.05)
        go_on.set()
        assert await handle.result() == {"name": "Rex"}
    assert execution.phase == "COMPLETED"


async def steps_of(handle: WorkflowHandle[Any, Any]) -> int:
    """How many steps of a run are over."""
    kinds = [event.event_type async for event in handle.fetch_history_events()]
    return kinds.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)


async def test_an_unknown_execution_fails_the_run_at_once(runs: Runs, client: Client) -> None:
    execution = runs.add("do:\n- x: {set: {n: 1}}")
    runs.peer.executions.clear()
    handle = await runs.start(execution)
    async with asyncio.timeout(20):
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    assert "no workflow execution" in str(failed.value.cause)
