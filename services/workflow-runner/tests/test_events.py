"""Emitting and hearing events: what is published, what counts, in which order, and what survives."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from workflow_runner import names
from workflow_runner.testing import Execution, Runs, StartRunner

IN_PROGRESS = 2
Handle = WorkflowHandle[Any, Any]


async def listening(runs: Runs, execution: Execution, number: int = 1) -> None:
    """Wait until so many listeners of the execution wait for events."""
    async with asyncio.timeout(30):
        await runs.peer.events.until_waiting(execution.id, number)


async def begin(runs: Runs, definition: str, data: Any = None, **more: Any) -> tuple[Execution, Handle]:
    """Start a run and wait until it waits for events."""
    execution = runs.add(definition, data, **more)
    handle = await runs.start(execution)
    await listening(runs, execution)
    return execution, handle


async def ended(handle: Handle) -> Any:
    async with asyncio.timeout(60):
        return await handle.result()


def listen(to: str, more: str = "") -> str:
    return f"do:\n- hear: {{listen: {{to: {to}}}{more}}}"


@pytest.mark.requirement("emit.publish", "emit.defaults")
async def test_an_emitted_event_is_published_with_what_was_left_out_and_is_the_output(runs: Runs) -> None:
    output = await runs.output(
        """
do:
- tell:
    emit:
      event:
        with:
          type: com.example.greeted
          data: {greetings: '${ "Hello \\(.name)!" }', n: 3}
          subject: '${ .name }'
          priority: 7
""",
        {"name": "Ada"},
    )
    (event,) = runs.peer.events.kept
    assert {**output, "time": ""} == {**event, "time": ""}
    assert (event["type"], event["source"], event["subject"]) == ("com.example.greeted", "/workflows/test/test", "Ada")
    assert (event["data"], event["priority"]) == ({"greetings": "Hello Ada!", "n": 3}, "7")
    assert event["datacontenttype"] == "application/json"
    assert len(event["id"]) == 36
    assert event["time"].startswith("20")


@pytest.mark.requirement("emit.publish", "event.attributes")
async def test_what_the_author_gives_stands(runs: Runs) -> None:
    time = "time: '2026-01-02T03:04:05Z', datacontenttype: text/plain, data: hi"
    event = f"{{id: '${{ .id }}', source: 'https://x', type: t, {time}}}"
    output = await runs.output(f"do:\n- tell: {{emit: {{event: {{with: {event}}}}}}}", {"id": "mine"})
    assert (output["id"], output["source"], output["time"]) == ("mine", "https://x", "2026-01-02T03:04:05Z")
    (kept,) = runs.peer.events.kept
    assert (kept["datacontenttype"], kept["data"]) == ("text/plain", "hi")


@pytest.mark.requirement("emit.publish")
async def test_an_event_whose_answers_are_lost_is_published_again_and_kept_once(runs: Runs) -> None:
    runs.peer.events.lost_answers = 12
    output = await runs.output("do:\n- tell: {emit: {event: {with: {type: t}}}}")
    assert runs.peer.events.attempts == 13
    assert [event["id"] for event in runs.peer.events.kept] == [output["id"]]


async def test_events_of_a_loop_are_each_an_event_of_their_own(runs: Runs) -> None:
    await runs.run(
        "do:\n- l: {for: {in: '[1, 2, 3]'}, do: [{tell: {emit: {event: {with: {type: t, data: '${ $item }'}}}}}]}"
    )
    assert [event["data"] for event in runs.peer.events.kept] == [1, 2, 3]
    assert len({event["id"] for event in runs.peer.events.kept}) == 3


async def test_an_event_with_a_secret_is_refused_and_one_with_a_variable_is_not(runs: Runs) -> None:
    emit = "do:\n- tell: {{emit: {{event: {{with: {{type: t, data: '{}'}}}}}}}}"
    error = await runs.error(emit.format("${.secrets.TOKEN}"), secrets={"TOKEN": "tok-1234"})
    assert error["status"] == 403
    assert "TOKEN" in error["detail"]
    assert runs.peer.events.kept == []
    await runs.output(emit.format("${.env_vars.PLACE}"), variables={"PLACE": "Rome"})
    assert runs.peer.events.kept[0]["data"] == "Rome"


@pytest.mark.parametrize(
    ("attributes", "name"),
    [("time: '${ \"yesterday\" }'", "validation"), ("data: 1, subject: '${ {} }'", "expression")],
)
async def test_what_is_no_event_fails_the_task(runs: Runs, attributes: str, name: str) -> None:
    error = await runs.error(f"do:\n- tell: {{emit: {{event: {{with: {{type: t, {attributes}}}}}}}}}")
    assert error["type"].endswith(name)
    assert error["instance"] == "/do/0/tell"


@pytest.mark.requirement("listen.one", "listen.output")
async def test_one_event_is_heard_and_those_before_the_run_are_not(runs: Runs) -> None:
    await runs.publish("order", {"n": 0})
    execution, handle = await begin(runs, listen("{one: {with: {type: order}}}"))
    await runs.publish("other")
    await runs.publish("order", {"n": 1})
    assert await ended(handle) == [{"n": 1}]
    assert execution.reported["/do/0/hear"].status == 3


async def test_an_event_between_the_beginning_of_the_run_and_of_the_task_counts(runs: Runs) -> None:
    document = (
        "do:\n- ask: {emit: {event: {with: {type: order}}}}\n- hear: {listen: {to: {one: {with: {type: order}}}}}"
    )
    assert await runs.output(document) == [None]


@pytest.mark.requirement("events.heard")
async def test_people_see_what_is_waited_for(runs: Runs) -> None:
    execution, handle = await begin(runs, listen("{one: {with: {type: order, subject: '${ .who }'}}}"), {"who": "ada"})
    await runs.peer.until(execution, lambda seen: bool(seen.reported))
    task = execution.reported["/do/0/hear"]
    assert task.status == IN_PROGRESS
    assert task.metadata["listening"]["one"][0]["with"]["subject"] == "ada"
    await runs.publish("order", subject="ada")
    await ended(handle)


@pytest.mark.requirement("event.match")
@pytest.mark.parametrize(
    ("wanted", "unwanted", "meant"),
    [
        ("type: 'com\\.example\\..*'", {"type_": "org.example.a"}, {"type_": "com.example.a"}),
        ("source: '/a|/b'", {"type_": "t", "source": "/c"}, {"type_": "t", "source": "/b"}),
        ("type: t, region: 'eu-.*'", {"type_": "t", "region": "us-1"}, {"type_": "t", "region": "eu-1"}),
        ("type: t, data: '${ .n > 2 }'", {"type_": "t", "data": {"n": 1}}, {"type_": "t", "data": {"n": 3}}),
        ("type: t, data: '${ .a.b > 2 }'", {"type_": "t", "data": {"a": "x"}}, {"type_": "t", "data": {"a": {"b": 3}}}),
        (
            "type: t, data: {k: paid}",
            {"type_": "t", "data": {"k": "no"}},
            {"type_": "t", "data": {"k": "paid", "n": 1}},
        ),
        ("type: '${ .kind }'", {"type_": "a"}, {"type_": "b"}),
        ("type: t, subject: '(a+)+b'", {"type_": "t", "subject": "a" * 60}, {"type_": "t", "subject": "aab"}),
    ],
)
async def test_events_are_meant_by_all_their_attributes(runs: Runs, wanted: str, unwanted: Any, meant: Any) -> None:
    _, handle = await begin(runs, listen(f"{{one: {{with: {{{wanted}}}}}}}, read: envelope"), {"kind": "b"})
    await runs.publish(**unwanted)
    event = await runs.publish(**meant)
    assert await ended(handle) == [event]


@pytest.mark.requirement("listen.all")
async def test_all_are_heard_in_any_order_and_given_in_that_of_the_filters(runs: Runs) -> None:
    _, handle = await begin(runs, listen("{all: [{with: {type: a}}, {with: {type: b}}, {with: {type: a}}]}"))
    for number, kind in enumerate("baa"):
        await runs.publish(kind, number)
    assert await ended(handle) == [1, 0, 2]


@pytest.mark.requirement("listen.any")
async def test_any_takes_the_first_and_the_empty_list_means_everything(runs: Runs) -> None:
    _, handle = await begin(runs, listen("{any: [{with: {type: a}}, {with: {type: b}}]}"))
    await runs.publish("b", 2)
    assert await ended(handle) == [2]
    _, handle = await begin(runs, listen("{any: []}"))
    await runs.publish("whatever", 3)
    assert await ended(handle) == [3]


@pytest.mark.requirement("listen.until-condition", "listen.output")
async def test_until_a_condition_on_what_was_heard_holds(runs: Runs) -> None:
    _, handle = await begin(runs, listen("{any: [], until: '( . | length ) >= 3'}"))
    for number in range(5):
        await runs.publish("t", number)
    assert await ended(handle) == [0, 1, 2]


@pytest.mark.requirement("listen.until-events")
async def test_until_events_that_are_no_part_of_the_output(runs: Runs) -> None:
    until = "{all: [{with: {type: stop}}, {with: {type: now}}]}"
    _, handle = await begin(runs, listen(f"{{any: [], until: {until}}}"))
    for number, kind in enumerate(["a", "stop", "b", "stop", "now"]):
        await runs.publish(kind, number)
    assert await ended(handle) == [0, 2, 3]


@pytest.mark.requirement("listen.foreach")
async def test_each_event_is_processed_before_the_next(runs: Runs) -> None:
    foreach = """, foreach: {
      item: order, at: number,
      do: [{double: {set: {n: '${ $order.n * 2 }', at: '${ $number }'}}}],
      output: {as: '{double: .n, was: $order.n}'},
      export: {as: '{sum: (($context.sum // 0) + .double)}'}}"""
    document = (
        listen("{any: [{with: {type: t}}], until: '. | length == 3'}", foreach)
        + "\n- sum: {set: '${ {o: ., s: $context.sum} }'}"
    )
    execution, handle = await begin(runs, document)
    for number in range(4):
        await runs.publish("t", {"n": number})
    assert await ended(handle) == {"o": [{"double": n * 2, "was": n} for n in range(3)], "s": 6}
    assert execution.reported["/do/0/hear[1]/foreach/do/0/double"].iteration == 1


@pytest.mark.requirement("event.correlate")
async def test_events_of_one_correlation_belong_together(runs: Runs) -> None:
    filters = ", ".join(f"{{with: {{type: {kind}}}, correlate: {{order: {{from: .data.id}}}}}}" for kind in "ab")
    _, handle = await begin(runs, listen(f"{{all: [{filters}]}}"))
    for kind, id_ in (("a", 1), ("b", 2), ("b", None), ("b", 1)):
        await runs.publish(kind, {"id": id_})
    assert await ended(handle) == [{"id": 1}, {"id": 1}]
    expected = "{one: {with: {type: a}, correlate: {order: {from: .data.id, expect: '${ .id }'}}}}"
    _, handle = await begin(runs, listen(expected), {"id": 7})
    await runs.publish("a", {"id": 6})
    await runs.publish("a", {"id": 7})
    assert await ended(handle) == [{"id": 7}]


@pytest.mark.requirement("listen.read")
@pytest.mark.parametrize(
    ("form", "data", "read"),
    [("data", {"n": 1}, {"n": 1}), ("raw", {"n": 1}, '{"n":1}'), ("raw", None, "null"), ("data", "x", "x")],
)
async def test_events_are_read_as_is_said(runs: Runs, form: str, data: Any, read: Any) -> None:
    _, handle = await begin(runs, listen(f"{{any: []}}, read: {form}"))
    await runs.publish("t", data)
    assert await ended(handle) == [read]


async def test_an_event_counts_for_one_task_after_another_once_and_one_not_wanted_for_a_later_one(runs: Runs) -> None:
    document = """
do:
- second: {listen: {to: {one: {with: {type: t, data: '${ .n == 2 }'}}}}}
- first: {listen: {to: {one: {with: {type: t, data: '${ .n < 9 }'}}}}}
- third: {listen: {to: {one: {with: {type: t}}}}, output: {as: '[$context, .]'}}
"""
    _, handle = await begin(runs, document)
    for number in (1, 2, 3):
        await runs.publish("t", {"n": number})
    assert (await ended(handle))[1] == [{"n": 3}]


async def test_signals_and_events_are_mixed(runs: Runs) -> None:
    execution, handle = await begin(runs, listen("{all: [{with: {type: signal, id: go}}, {with: {type: t}}]}"))
    await handle.signal(names.SIGNAL, {"id": "s1", "name": "go", "payload": "signalled", "at": ""})
    await runs.publish("t", "published")
    assert await ended(handle) == ["signalled", "published"]
    del execution


@pytest.mark.requirement("events.heard", "durable.continued")
async def test_a_flood_is_heard_whole_and_in_order_over_many_histories(start_runner: StartRunner) -> None:
    runs = await start_runner(max_history_events=25)
    number = 1000
    execution = runs.add(
        listen(
            f"{{any: [{{with: {{type: t}}}}], until: '. | length == {number}'}}",
            ", foreach: {do: [{a: {set: '${ $item }'}}]}",
        )
    )
    await runs.peer.events.add(*({"id": str(n), "source": "/s", "type": "t", "data": n} for n in range(number // 2)))
    handle = await runs.start(execution)
    await listening(runs, execution)
    await runs.peer.events.add(
        *({"id": str(n), "source": "/s", "type": "t", "data": n} for n in range(number // 2, number))
    )
    assert await ended(handle) == list(range(number))
    description = await runs.client.get_workflow_handle(handle.id).describe()
    assert description.raw_description.workflow_execution_info.first_run_id != description.run_id


async def test_a_task_that_hears_nothing_in_time_times_out(runs: Runs) -> None:
    error = await runs.error(listen("{one: {with: {type: t}}}", ", timeout: {after: PT0.3S}"))
    assert error["status"] == 408


async def test_a_moment_of_a_schedule_is_told_to_the_server_by_its_name_and_time(runs: Runs) -> None:
    for name, more in (("wfl-1-2026-01-01T08:00:00Z", {}), ("wfl-1/after/wex-1/0", {"key": "after/wex-1/0"})):
        handle = await runs.client.start_workflow(
            names.FIRE_WORKFLOW,
            {"workflow_id": "wfl-1", "org": "acme", **more},
            id=f"{names.FIRE_WORKFLOW}/{name}",
            task_queue=runs.queue,
        )
        assert await ended(handle) == "wex-1"
    first, second = runs.peer.events.fired
    assert first == ("wfl-1", f"{names.FIRE_WORKFLOW}/wfl-1-2026-01-01T08:00:00Z", "2026-01-01T08:00:00Z")
    assert second == ("wfl-1", "after/wex-1/0", "")
