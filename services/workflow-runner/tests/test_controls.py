"""Runs that are held, go on, and listen: told by signals as the server sends them."""

import asyncio
import uuid
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle
from workflow_runner import names
from workflow_runner.testing import Execution, PeerServer, Response, Runs, Site, StartRunner

COMPLETED = 3
Handle = WorkflowHandle[Any, Any]


async def tell(handle: Handle, what: str, *, key: str = "", **content: Any) -> None:
    """Give the run a signal as the server does; `key` becomes its id."""
    await handle.signal(what, {"id": key or uuid.uuid4().hex, **content})


async def send(handle: Handle, name: str, payload: Any = None, *, key: str = "") -> None:
    await tell(handle, names.SIGNAL, key=key, name=name, payload=payload, at="2026-01-01T00:00:00Z")


async def held(peer: PeerServer, execution: Execution, times: int = 1) -> None:
    """Wait until the run has said that it holds, so many times."""
    await peer.until(execution, lambda seen: sum(update.phase == 7 for update in seen.updates) >= times)


async def ended(handle: Handle) -> Any:
    async with asyncio.timeout(30):
        return await handle.result()


def asked(site: Site, path: str) -> int:
    return len(site.seen(path))


@pytest.mark.requirement("control.pause")
async def test_a_call_in_flight_ends_and_then_the_run_holds_until_it_is_resumed(runs: Runs, site: Site) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_: Any) -> Response:
        begun.set()
        await go.wait()
        return Response({"n": 1})

    site.page("/slow", slow)
    site.page("/next", {"n": 2})
    execution = runs.add(
        f"""
do:
- slow: {{call: http, with: {{method: post, endpoint: {site.url}/slow}}}}
- next: {{call: http, with: {{method: post, endpoint: {site.url}/next}}}}
"""
    )
    handle = await runs.start(execution)
    await asyncio.wait_for(begun.wait(), 30)
    await tell(handle, names.PAUSE)
    go.set()
    await held(runs.peer, execution)
    assert execution.reported["/do/0/slow"].status == COMPLETED
    assert asked(site, "/next") == 0
    await tell(handle, names.RESUME)
    assert await ended(handle) == {"n": 2}
    assert (asked(site, "/slow"), asked(site, "/next")) == (1, 1)


async def test_a_run_that_is_paused_before_it_has_begun_does_nothing(runs: Runs, site: Site) -> None:
    site.page("/a", {"n": 1})
    execution = runs.add(f"do:\n- a: {{call: http, with: {{method: get, endpoint: {site.url}/a}}}}")
    handle: Handle = await runs.client.start_workflow(
        names.WORKFLOW,
        {"execution_id": execution.id, "org": "acme"},
        id=f"{names.WORKFLOW}/{execution.id}",
        task_queue=runs.queue,
        start_signal=names.PAUSE,
        start_signal_args=[{"id": "first"}],
    )
    await held(runs.peer, execution)
    assert asked(site, "/a") == 0
    await tell(handle, names.RESUME)
    assert await ended(handle) == {"n": 1}


@pytest.mark.requirement("control.signal")
async def test_what_comes_twice_counts_once(runs: Runs) -> None:
    execution = runs.add("do:\n- a: {wait: PT0.05S}\n- b: {set: {n: 1}}")
    handle = await runs.start(execution)
    await tell(handle, names.PAUSE, key="p1")
    await held(runs.peer, execution)
    await tell(handle, names.RESUME, key="r1")
    await tell(handle, names.PAUSE, key="p1")
    assert await ended(handle) == {"n": 1}


async def test_what_is_no_message_is_left_alone(runs: Runs) -> None:
    execution = runs.add("do:\n- a: {listen: {to: {one: {with: {type: signal, id: go}}}}}")
    handle = await runs.start(execution)
    for name in (names.PAUSE, names.RESUME, names.SIGNAL, names.ANSWER):
        await handle.signal(name, "nonsense")
    await tell(handle, names.ANSWER, task_id=3)
    await send(handle, "go", 1)
    assert await ended(handle) == [1]


@pytest.mark.requirement("control.pause")
async def test_no_time_passes_for_a_run_that_is_held(runs: Runs) -> None:
    execution = runs.add(
        """
timeout: {after: {seconds: 3}}
do:
- outer:
    timeout: {after: {seconds: 2}}
    do:
    - first: {wait: PT0.1S}
    - second: {wait: PT0.1S}
"""
    )
    handle = await runs.start(execution)
    await tell(handle, names.PAUSE)
    await held(runs.peer, execution)
    await asyncio.sleep(3.5)
    await tell(handle, names.RESUME)
    await ended(handle)
    assert execution.phase == "COMPLETED"


async def test_time_passes_again_once_it_goes_on(runs: Runs) -> None:
    execution = runs.add(
        "do:\n- outer: {timeout: {after: {seconds: 1}}, do: [{a: {wait: PT0.1S}}, {b: {wait: PT30S}}]}"
    )
    handle = await runs.start(execution)
    await tell(handle, names.PAUSE)
    await held(runs.peer, execution)
    await tell(handle, names.RESUME)
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    assert execution.error["status"] == 408


@pytest.mark.requirement("control.cancel")
async def test_a_held_run_can_be_cancelled(runs: Runs) -> None:
    execution = runs.add("do:\n- a: {wait: PT0.05S}\n- b: {set: {n: 1}}")
    handle = await runs.start(execution)
    await tell(handle, names.PAUSE)
    await held(runs.peer, execution)
    await handle.cancel()
    await runs.peer.until(execution, lambda seen: seen.phase == "CANCELLED")


async def test_a_hold_and_unheard_signals_are_carried_into_a_new_history(
    start_runner: StartRunner, client: Client
) -> None:
    runs = await start_runner(max_history_events=20)
    pauses = "\n".join(f"- pause{index}: {{wait: {{milliseconds: 1}}}}" for index in range(8))
    execution = runs.add(
        f"""
do:
- a: {{wait: PT0.2S}}
- all: {{listen: {{to: {{all: [{{with: {{type: signal, id: x}}}}, {{with: {{type: signal, id: y}}}}]}}}}}}
{pauses}
- b: {{listen: {{to: {{one: {{with: {{type: signal, id: go}}}}}}}}}}
"""
    )
    handle = await runs.start(execution)
    first = (await handle.describe()).run_id
    await tell(handle, names.PAUSE)
    await send(handle, "go", "early", key="s1")
    # Whatever comes makes the history of the held run longer, until it goes on in a new one.
    for number in range(12):
        await send(handle, "unheard", number)
    await held(runs.peer, execution, 2)
    assert (await handle.describe()).run_id != first
    await tell(handle, names.RESUME)
    await send(handle, "y", 2)
    for number in range(20):
        await send(handle, "unheard", number)
    await send(handle, "x", 1)
    await send(handle, "go", "again", key="s1")
    assert await ended(handle) == ["early"]
    assert execution.reported["/do/1/all"].status == COMPLETED


@pytest.mark.requirement("listen.signals")
@pytest.mark.parametrize(
    ("to", "sent", "output"),
    [
        ("one: {with: {type: signal, id: go}}", [("other", 0), ("go", {"a": [1]})], [{"a": [1]}]),
        ("one: {with: {type: signal, id: '${ .name }'}}", [("named", None)], [None]),
        ("any: [{with: {type: signal, id: a}}, {with: {type: signal, id: b}}]", [("b", 2)], [2]),
        (
            "all: [{with: {type: signal, id: a}}, {with: {type: signal, id: b}}, {with: {type: signal, id: a}}]",
            [("b", 2), ("a", 1), ("a", 3)],
            [1, 2, 3],
        ),
    ],
)
async def test_a_run_listens_for_signals_by_their_names(
    runs: Runs, to: str, sent: list[tuple[str, Any]], output: Any
) -> None:
    execution = runs.add(f"do:\n- wait: {{listen: {{to: {{{to}}}}}}}", {"name": "named"})
    handle = await runs.start(execution)
    await runs.peer.until(execution, lambda seen: "/do/0/wait" in seen.reported)
    for name, payload in sent:
        await send(handle, name, payload)
    assert await ended(handle) == output


@pytest.mark.requirement("listen.signals")
async def test_signals_of_one_name_are_heard_one_by_one_in_order(runs: Runs) -> None:
    execution = runs.add(
        "do:\n- l: {for: {in: '[1, 2, 3]'}, do: [{wait: {listen: {to: {one: {with: {type: signal, id: go}}}}}}]}"
        "\n- last: {set: {heard: '${ . }'}}"
    )
    handle = await runs.start(execution)
    for number in (1, 2, 3):
        await send(handle, "go", number, key=f"s{number}")
        await send(handle, "go", number, key=f"s{number}")
    assert await ended(handle) == {"heard": [3]}
    heard = [
        task.output_value.list_value.values[0].number_value
        for task in execution.reported.values()
        if task.kind == "listen"
    ]
    assert heard == [1, 2, 3]


async def test_listening_has_a_timeout(runs: Runs) -> None:
    error = await runs.error(
        "do:\n- wait: {timeout: {after: PT0.1S}, listen: {to: {one: {with: {type: signal, id: go}}}}}"
    )
    assert error["status"] == 408


async def test_an_envelope_tells_more_of_a_signal(runs: Runs) -> None:
    execution = runs.add("do:\n- wait: {listen: {to: {one: {with: {type: signal, id: go}}}, read: envelope}}")
    handle = await runs.start(execution)
    await send(handle, "go", 7, key="s1")
    (heard,) = await ended(handle)
    assert heard["subject"] == "go"
    assert heard["data"] == 7
