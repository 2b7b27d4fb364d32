"""Runs that are gone ahead with while they are loaded: the same happens, by fewer steps of Temporal's."""

import asyncio
import json
import time
from collections import Counter
from typing import Any, cast

import pytest
from stigmer_grpc.errors import InternalError
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from workflow_runner import names
from workflow_runner.clock import Clock
from workflow_runner.control import Control
from workflow_runner.head import Head, end_of, fingerprint
from workflow_runner.inbox import Inbox
from workflow_runner.messages import Report
from workflow_runner.testing import Execution, Request, Response, Runs, Site, StartRunner

MARKER = EventType.EVENT_TYPE_MARKER_RECORDED
COMPLETED = 3
STEP_FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
SCHEDULED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED


async def events(client: Client, execution: Execution) -> list[Any]:
    handle = client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}")
    return [event async for event in handle.fetch_history_events()]


def asked(site: Site) -> Counter[str]:
    return Counter(f"{request.method} {request.path}" for request in site.requests)


@pytest.mark.requirement("durable.head-start")
async def test_calls_that_may_be_repeated_are_over_when_the_run_is_loaded(
    runs: Runs, client: Client, site: Site
) -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.02)
        return Response({"path": request.path})

    for number in range(3):
        site.page(f"/{number}", slow)
    execution = await runs.run(
        f"""
timeout: {{after: PT1M}}
do:
- each:
    for: {{in: '${{ [0, 1] }}'}}
    do:
    - get: {{call: http, with: {{method: get, endpoint: '{site.url}/{{index}}'}}, input: {{from: '{{index: $index}}'}}}}
- last: {{timeout: {{after: PT30S}}, call: http, with: {{method: get, endpoint: {site.url}/2}}}}
- kept: {{set: {{at: '${{ $workflow.startedAt.epoch.milliseconds }}', path: '${{ .path }}'}}}}
"""
    )
    assert execution.output["path"] == "/2"
    assert asked(site) == {"GET /0": 1, "GET /1": 1, "GET /2": 1}
    found = await events(client, execution)
    assert [event for event in found if event.event_type == SCHEDULED] == []
    assert len([event for event in found if event.event_type == MARKER]) == 1, "the loading, which told the end"
    times = [
        (task.started_at, task.completed_at)
        for name, task in execution.reported.items()
        if name.endswith(("/get", "/last"))
    ]
    assert len(times) == len({*times}) > 1
    assert all(begun < ended for begun, ended in times)
    assert times == sorted(times)


async def test_the_run_goes_on_by_itself_where_a_call_must_not_be_repeated(
    runs: Runs, client: Client, site: Site
) -> None:
    site.page("/a", {"a": 1})
    site.page("/b", {"b": 2})
    execution = await runs.run(
        f"""
do:
- a: {{call: http, with: {{method: get, endpoint: {site.url}/a}}, export: {{as: .}}}}
- b: {{call: http, with: {{method: post, endpoint: {site.url}/b, body: '${{ . }}'}}}}
- c: {{call: http, with: {{method: get, endpoint: {site.url}/a}}}}
- d: {{set: {{of: '${{ [$context, .] }}'}}}}
"""
    )
    assert execution.output == {"of": [{"a": 1}, {"a": 1}]}
    assert asked(site) == {"GET /a": 2, "POST /b": 1}
    scheduled = [event for event in await events(client, execution) if event.event_type == SCHEDULED]
    named = {event.activity_task_scheduled_event_attributes.activity_type.name for event in scheduled}
    assert names.CALL_HTTP in named


async def test_an_error_is_caught_in_the_run_as_it_was_ahead_of_it(runs: Runs, site: Site) -> None:
    site.page("/no", Response({}, 404))
    site.page("/yes", {"found": True})
    execution = await runs.run(
        f"""
do:
- it:
    try: [{{no: {{call: http, with: {{method: get, endpoint: {site.url}/no}}}}}}]
    catch:
      errors: {{with: {{status: 404}}}}
      do: [{{yes: {{call: http, with: {{method: get, endpoint: {site.url}/yes}}}}}}]
"""
    )
    assert execution.output == {"found": True}
    assert asked(site) == {"GET /no": 1, "GET /yes": 1}
    assert execution.reported["/do/0/it/try/0/no"].error


@pytest.mark.requirement("durable.head-start")
async def test_a_run_that_is_over_when_it_is_loaded_is_told_of_once(runs: Runs, client: Client, site: Site) -> None:
    site.page("/a", {"a": 1})
    for first in (f"a: {{call: http, with: {{method: get, endpoint: {site.url}/a}}}}", "a: {set: {a: 1}}"):
        execution = await runs.run(f"do:\n- {first}\n- b: {{set: {{b: '${{ .a + 1 }}'}}}}")
        assert execution.output == {"b": 2}
        (update,) = execution.updates
        assert (execution.phase, list(execution.reported)) == ("COMPLETED", ["/do/0/a", "/do/1/b"])
        assert all(task.status == COMPLETED and task.completed_at for task in update.tasks)
        assert execution.status.started_at <= execution.status.completed_at
        markers = [event for event in await events(client, execution) if event.event_type == MARKER]
        assert len(markers) == 1


async def test_an_end_that_may_not_have_arrived_is_told_again(
    runs: Runs, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(execution: Execution) -> None:
        if len(execution.updates) == 1:
            raise InternalError("the answer is lost")

    monkeypatch.setattr(runs.peer, "when_over", lost)
    execution = await runs.run("do:\n- a: {set: {a: 1}}")
    assert [update.phase for update in execution.updates] == [COMPLETED, COMPLETED]
    assert execution.updates[0].tasks[0].output == execution.updates[1].tasks[0].output
    assert len([event for event in await events(client, execution) if event.event_type == MARKER]) == 2


async def test_a_signal_that_comes_too_late_changes_nothing_of_the_end(runs: Runs, client: Client) -> None:
    async def signalled(execution: Execution) -> None:
        # Temporal does not let a run end that has news: the step that told the end is repeated.
        handle = client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}")
        await handle.signal(names.SIGNAL, {"id": "late", "name": "late", "payload": None, "at": "2026-01-01T00:00:00Z"})

    runs.peer.when_over = signalled
    execution = runs.add("do:\n- a: {set: {a: 1}}")
    handle = await runs.start(execution)
    async with asyncio.timeout(30):
        assert await handle.result() == {"a": 1}
    assert (execution.phase, execution.output, len(execution.updates)) == ("COMPLETED", {"a": 1}, 1)
    failed = [event for event in await events(client, execution) if event.event_type == STEP_FAILED]
    assert len(failed) == 1


async def test_a_run_whose_end_was_told_is_not_held_any_more() -> None:
    control = Control(Inbox(None), Clock(time.time))
    control.pause({"id": "before"})
    assert control.is_held
    control.let_go()
    assert not control.is_held
    control.pause({"id": "after"})
    assert not control.is_held


def test_an_end_is_known_by_how_it_is_but_not_by_when() -> None:
    def ended(output: Any = 1, status: str = "COMPLETED", **more: Any) -> Any:
        task = {"id": "/do/0/a", "status": status, "output": output, **more}
        return {"execution_id": "x", "phase": "COMPLETED", "output": output, "tasks": [task]}

    head = Head({"nonce": "n", "began": 1.0, "calls": [], "end": end_of(ended())})
    assert head.has_told(ended(completed_at="later"))
    assert not head.has_told(ended(2))
    assert not head.has_told(ended(status="SKIPPED"))
    assert not head.has_told(cast("Report", {**ended(), "tasks": []}))
    assert not Head({"nonce": "n", "began": 1.0, "calls": [], "end": ""}).has_told(ended())
    assert not Head(None).has_told(ended())


async def test_people_see_a_first_call_that_takes_long(runs: Runs, site: Site) -> None:
    go = asyncio.Event()

    async def slow(_: Request) -> Response:
        await go.wait()
        return Response({"ok": True})

    site.page("/slow", slow)
    execution = runs.add(f"do:\n- wait: {{call: http, with: {{method: get, endpoint: {site.url}/slow}}}}")
    handle = await runs.start(execution)
    await runs.peer.until(execution, lambda seen: "/do/0/wait" in seen.reported)
    go.set()
    assert await asyncio.wait_for(handle.result(), 30) == {"ok": True}
    assert asked(site) == {"GET /slow": 1}


async def test_a_first_call_that_takes_too_long_becomes_an_ordinary_activity(
    start_runner: StartRunner, client: Client, site: Site
) -> None:
    runs = await start_runner(local_call_seconds=0.2)
    answers = iter([0.6, 0.6])

    async def slow(_: Request) -> Response:
        await asyncio.sleep(next(answers, 0))
        return Response({"ok": True})

    site.page("/slow", slow)
    execution = await runs.run(f"do:\n- wait: {{call: http, with: {{method: get, endpoint: {site.url}/slow}}}}")
    assert execution.output == {"ok": True}
    assert asked(site)["GET /slow"] == 2, "given up ahead of the run, and not tried like that again"


async def test_secrets_are_symbols_ahead_of_the_run_too(runs: Runs, client: Client, site: Site) -> None:
    site.page("/who", lambda request: Response({"you": request.headers["k"]}))
    site.page("/again", lambda request: Response({"you": request.headers["k"]}))
    execution = await runs.run(
        f"""
use: {{secrets: [TOKEN]}}
do:
- who: {{call: http, with: {{method: get, endpoint: {site.url}/who, headers: {{k: '${{ $secrets.TOKEN }}'}}}}}}
- keep: {{set: {{token: '${{ $secrets.TOKEN }}'}}}}
- again: {{call: http, with: {{method: get, endpoint: {site.url}/again, headers: {{k: '${{ .token }}'}}}}}}
""",
        secrets={"TOKEN": "tok-1234"},
    )
    assert execution.phase == "COMPLETED", execution.error
    assert [request.headers["k"] for request in site.requests] == ["tok-1234"] * 2
    assert "tok-1234" not in json.dumps([str(event) for event in await events(client, execution)])
    assert "tok-1234" not in str(execution.updates)


async def test_the_symbol_of_a_secret_that_is_not_there_is_shown_to_nobody(runs: Runs) -> None:
    execution = await runs.run("use: {secrets: [TOKEN]}\ndo:\n- keep: {set: {token: '${ $secrets.TOKEN }'}}")
    assert execution.output == {"token": "***REDACTED***"}
    assert len(execution.updates) == 1, "told while it was loaded"


async def test_large_first_answers_are_had_once_where_there_is_a_place_for_them(
    start_runner: StartRunner, tmp_path: Any, site: Site
) -> None:
    runs = await start_runner(blob_folder=tmp_path / "blobs")
    site.page("/large", {"text": "x" * 6_000_000})
    execution = await runs.run(
        f"""
do:
- large: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- length: {{set: {{whole: '${{ .text }}'}}}}
"""
    )
    assert len(runs.whole(execution)["whole"]) == 6_000_000
    assert asked(site) == {"GET /large": 1}


def test_a_head_ends_with_the_first_call_that_is_another_one() -> None:
    def made(key: str, number: int, arguments: dict[str, Any]) -> Any:
        return {"call": fingerprint("http", key, arguments), "answer": {"output": number}, "at": number + 1.0}

    calls = [
        made("/do/0/a", 1, {"uri": "a", "query": [], "body": None}),
        made("/do/1/b", 2, {"uri": "b"}),
        made("/do/2/c", 3, {"uri": "c"}),
    ]
    head = Head({"nonce": "n", "began": 1.0, "calls": calls})
    assert head.time(9.0) == 1.0
    assert head.take("http", "/do/0/a", {"uri": "a", "later": False}) == {"output": 1}, "what is empty is not said"
    assert head.time(9.0) == 2.0
    assert head.take("http", "/do/1/b", {"uri": "other"}) is None
    assert head.take("http", "/do/2/c", {"uri": "c"}) is None
    assert head.time(9.0) == 9.0
    assert Head(None).take("http", "/do/0/a", {}) is None
