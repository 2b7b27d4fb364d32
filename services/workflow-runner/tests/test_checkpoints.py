"""A failed run is recovered: what was finished stays, what failed is done again, with all that was known then."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle
from workflow_runner.checkpoint import Mark, Marks
from workflow_runner.testing import Execution, Response, Runs, Site, StartRunner

NOTHING_DONE_TWICE = """
do:
- first: {call: http, with: {method: post, endpoint: SITE/a}, export: {as: '{seen: [.]}'}}
- outer:
    do:
    - second: {call: http, with: {method: post, endpoint: SITE/b}, export: {as: '{seen: ($context.seen + [.])}'}}
    - flaky: {call: http, with: {method: post, endpoint: SITE/flaky, body: '${ . }'}}
    - third: {call: http, with: {method: post, endpoint: SITE/c}}
- last: {set: {seen: '${ $context.seen }', before: '${ . }', began: '${ $workflow.startedAt.iso8601 }'}}
"""


async def ended(handle: WorkflowHandle[Any, Any]) -> Any:
    async with asyncio.timeout(60):
        return await handle.result()


def counts(site: Site) -> dict[str, int]:
    return {path: len(site.seen(path)) for path in sorted({request.path for request in site.requests})}


def statuses(execution: Execution) -> dict[str, int]:
    return {name: task.status for name, task in execution.reported.items()}


def pages(site: Site, *paths: str) -> None:
    for path in paths:
        site.page(path, {"from": path})


def failing_first(site: Site, path: str, times: int = 1) -> None:
    """Let a page fail a few times before it answers."""
    left = times

    def answer(_: Any) -> Response:
        nonlocal left
        left -= 1
        return Response({}, 500) if left >= 0 else Response({"from": path})

    site.page(path, answer)


@pytest.mark.requirement("durable.recovered", "faults.recovered")
async def test_what_was_finished_is_not_done_again(runs: Runs, site: Site) -> None:
    pages(site, "/a", "/b", "/c")
    failing_first(site, "/flaky")
    execution = await runs.run(NOTHING_DONE_TWICE.replace("SITE", site.url))
    assert execution.phase == "FAILED"
    began = execution.updates[-1].started_at
    output = await ended(await runs.recover(execution))
    assert output["seen"] == [{"from": "/a"}, {"from": "/b"}]
    assert output["before"] == {"from": "/c"}
    assert counts(site) == {"/a": 1, "/b": 1, "/c": 1, "/flaky": 2}
    assert [request.json for request in site.seen("/flaky")] == [{"from": "/b"}] * 2
    assert set(statuses(execution).values()) == {3}
    assert execution.updates[-1].started_at == began


@pytest.mark.requirement("durable.recovered", "faults.recovered")
async def test_a_run_begins_with_a_task_that_is_named_and_knows_what_was_known_there(runs: Runs, site: Site) -> None:
    pages(site, "/a", "/b", "/c")
    failing_first(site, "/flaky")
    execution = await runs.run(NOTHING_DONE_TWICE.replace("SITE", site.url))
    output = await ended(await runs.recover(execution, "/do/1/outer/do/0/second"))
    # The context is that of the task's first time: it was not told twice of the second.
    assert output["seen"] == [{"from": "/a"}, {"from": "/b"}]
    assert counts(site) == {"/a": 1, "/b": 2, "/c": 1, "/flaky": 2}


async def test_every_task_that_began_can_be_begun_with(runs: Runs, site: Site) -> None:
    pages(site, "/a", "/b", "/c")
    failing_first(site, "/flaky", 6)
    execution = await runs.run(NOTHING_DONE_TWICE.replace("SITE", site.url))
    positions = [item for item in execution.checkpoints[-1].positions if not item.failed]
    assert [(item.reference, item.task_name, list(item.within)) for item in positions] == [
        ("/do/0/first", "first", []),
        ("/do/1/outer", "outer", []),
        ("/do/1/outer/do/0/second", "second", ["/do/1/outer"]),
        ("/do/1/outer/do/1/flaky", "flaky", ["/do/1/outer"]),
    ]
    for position in positions:
        with pytest.raises(Exception, match="Workflow execution failed"):
            await ended(await runs.recover(execution, position.reference))
    assert counts(site) == {"/a": 2, "/b": 4, "/flaky": 5}


@pytest.mark.parametrize(
    ("document", "again"),
    [
        # The third pass of a loop, at its second task.
        (
            "- l: {for: {in: '[1, 2, 3, 4]'}, while: .n < 9, do: [{a: POST/a}, {f: POST/flaky}, "
            "{n: {set: {n: '${ $index }'}}}]}",
            {"/a": 4, "/flaky": 5},
        ),
        # The last attempt of a try, and what is done instead.
        (
            "- t: {try: [{a: POST/a}, {f: {raise: {error: {type: 'https://x/y', status: 400}}}}], "
            "catch: {retry: {limit: {attempt: {count: 1}}}, do: [{b: POST/b}, {f: POST/flaky}]}}",
            {"/a": 2, "/b": 1, "/flaky": 2},
        ),
        # After a jump back.
        (
            "- n: {set: {n: '${ (.n // 0) + 1 }'}}\n- a: {POST/a, output: {as: $input}}\n"
            "- again: {if: .n < 3, set: '${ . }', then: n}\n- f: POST/flaky",
            {"/a": 3, "/flaky": 2},
        ),
    ],
)
async def test_loops_attempts_and_jumps_go_on_where_they_were(
    runs: Runs, site: Site, document: str, again: dict[str, int]
) -> None:
    def post(path: str) -> str:
        return f"{{call: http, with: {{method: post, endpoint: {site.url}{path}}}}}"

    pages(site, "/a", "/b")
    calls = 0

    def flaky(_: Any) -> Response:
        nonlocal calls
        calls += 1
        return Response({}, 500) if calls == (3 if "for" in document else 1) else Response({"n": calls})

    site.page("/flaky", flaky)
    for path in ("/a", "/b", "/flaky"):
        document = document.replace(f"{{POST{path}, ", post(path)[:-1] + ", ").replace(f"POST{path}", post(path))
    execution = await runs.run("do:\n" + document)
    assert execution.phase == "FAILED", execution.error
    await ended(await runs.recover(execution))
    assert counts(site) == again


async def test_work_that_is_done_is_not_done_again_because_its_output_was_wrong(runs: Runs, site: Site) -> None:
    pages(site, "/a")
    execution = await runs.run(
        f"do:\n- a: {{call: http, with: {{method: post, endpoint: {site.url}/a}}, output: {{as: '${{ .from.b }}'}}}}"
    )
    assert execution.phase == "FAILED"
    with pytest.raises(Exception, match="Workflow execution failed"):
        await ended(await runs.recover(execution))
    assert counts(site) == {"/a": 1}


async def test_time_limits_begin_anew(runs: Runs, site: Site) -> None:
    pages(site, "/a")
    go = asyncio.Event()

    async def slow(_: Any) -> Response:
        await go.wait()
        return Response({"ok": True})

    site.page("/slow", slow)
    execution = await runs.run(
        f"""
timeout: {{after: {{seconds: 20}}}}
do:
- outer:
    timeout: {{after: {{seconds: 1}}}}
    do:
    - a: {{call: http, with: {{method: post, endpoint: {site.url}/a}}}}
    - slow: {{call: http, with: {{method: get, endpoint: {site.url}/slow}}}}
"""
    )
    assert execution.error["status"] == 408
    go.set()
    assert await ended(await runs.recover(execution)) == {"ok": True}
    assert counts(site)["/a"] == 1


async def test_secrets_stay_symbolic_and_are_read_anew(runs: Runs, site: Site) -> None:
    failing_first(site, "/flaky")
    execution = await runs.run(
        f"""
use: {{secrets: [TOKEN]}}
do:
- keep: {{set: {{token: '${{ $secrets.TOKEN }}'}}}}
- send: {{call: http, with: {{method: post, endpoint: {site.url}/flaky, headers: {{K: '${{ .token }}'}}}}}}
""",
        secrets={"TOKEN": "tok-old"},
    )
    assert not [item for item in execution.checkpoints if b"tok-old" in item.content]
    execution.secrets["TOKEN"] = "tok-new"
    assert await ended(await runs.recover(execution)) == {"from": "/flaky"}
    assert [request.headers["k"] for request in site.seen("/flaky")] == ["tok-old", "tok-new"]


@pytest.mark.requirement("durable.definition")
async def test_the_definition_is_that_of_the_first_run(runs: Runs, site: Site) -> None:
    failing_first(site, "/flaky")
    document = f"do:\n- a: {{set: {{n: 1}}}}\n- f: {{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}"
    execution = await runs.run(document)
    execution.definition = execution.definition.replace("n: 1", "n: 2").replace("- f:", "- g: {wait: PT1S}\n- f:")
    assert await ended(await runs.recover(execution)) == {"from": "/flaky"}
    assert set(execution.reported) == {"/do/0/a", "/do/1/f"}


async def test_a_recovered_run_can_fail_and_be_recovered_again(runs: Runs, site: Site) -> None:
    pages(site, "/a")
    failing_first(site, "/flaky", 3)
    document = """
do:
- a: {call: http, with: {method: post, endpoint: SITE/a}}
- f: {call: http, with: {method: post, endpoint: SITE/flaky}}
"""
    execution = await runs.run(document.replace("SITE", site.url))
    for _ in range(2):
        with pytest.raises(Exception, match="Workflow execution failed"):
            await ended(await runs.recover(execution))
    assert await ended(await runs.recover(execution)) == {"from": "/flaky"}
    assert counts(site) == {"/a": 1, "/flaky": 4}


async def test_a_signal_that_no_task_has_taken_is_still_there(runs: Runs, site: Site) -> None:
    failing_first(site, "/flaky")
    execution = runs.add(
        f"""
do:
- hear: {{listen: {{to: {{one: {{with: {{type: signal, id: go}}}}}}}}}}
- send: {{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}
- hearAgain: {{listen: {{to: {{one: {{with: {{type: signal, id: go}}}}}}}}}}
"""
    )
    handle = await runs.start(execution)
    for number in (2, 1):
        await handle.signal("stigmer.signal", {"id": f"s{number}", "name": "go", "payload": number})
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    assert await ended(await runs.recover(execution)) == [1]


async def test_marks_outlive_the_history_in_which_they_were_made(
    start_runner: StartRunner, client: Client, site: Site
) -> None:
    runs = await start_runner(max_history_events=20)
    pages(site, "/a")
    failing_first(site, "/flaky", 2)
    pauses = "\n".join(f"- pause{index}: {{wait: {{milliseconds: 1}}}}" for index in range(8))
    execution = await runs.run(
        f"""
do:
- early: {{call: http, with: {{method: post, endpoint: {site.url}/a}}, export: {{as: '{{early: .}}'}}}}
{pauses}
- f: {{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}
- last: {{set: '${{ $context }}'}}
"""
    )
    assert execution.phase == "FAILED"
    assert len(execution.checkpoints) > 1
    with pytest.raises(Exception, match="Workflow execution failed"):
        await ended(await runs.recover(execution, "/do/0/early"))
    assert await ended(await runs.recover(execution)) == {"early": {"from": "/a"}}
    assert counts(site) == {"/a": 2, "/flaky": 3}


async def test_nothing_is_kept_of_what_fails_before_it_begins(runs: Runs) -> None:
    execution = await runs.run("evaluate: {language: js}\ndo:\n- e: {set: {n: 1}}")
    assert execution.phase == "FAILED"
    assert execution.checkpoints == []


def test_marks_that_would_keep_too_much_alive_are_forgotten_from_the_oldest() -> None:
    marks = Marks()
    for number in range(100):
        mark = Mark({"index": number, "input": {}, "jumps": 0, "visits": {}}, f"/do/{number}", "t", None, None)
        marks.note(f"/do/{number}", mark)
        marks.weigh(f"/do/{number}", 100_000)
    basis: Any = {"definition": "{}", "input": None, "nonce": "n", "started_at": 0, "limit": None, "inbox": {}}
    kept = marks.checkpoint(basis, None)
    assert kept is not None
    references = [position["reference"] for position in kept["positions"]]
    assert references == [f"/do/{number}" for number in range(59, 100)]
