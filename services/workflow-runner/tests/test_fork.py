"""Tasks side by side: what they give, how they end each other, and how a long fork goes on in a new history."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle
from workflow_runner import names
from workflow_runner.testing import Execution, PeerServer, Request, Response, Runs, Site, StartRunner

COMPLETED, FAILED = 3, 4
FOR_EVER = "{wait: P300D}"


async def ended(handle: WorkflowHandle[Any, Any]) -> Any:
    async with asyncio.timeout(60):
        return await handle.result()


def echo(site: Site) -> None:
    site.page("/echo", lambda request: Response(request.json))


def echoing(site: Site, value: str) -> str:
    return f"{{call: http, with: {{method: post, endpoint: {site.url}/echo, body: {value}}}}}"


def statuses(execution: Execution) -> dict[str, int]:
    return {name: task.status for name, task in execution.reported.items()}


def forks(*branches: str, compete: bool = False, after: str = "") -> str:
    """A document with one fork, of branches such as `a: {set: {n: 1}}`."""
    lines = [f"      - {branch}" for branch in branches]
    return "\n".join(
        ["do:", "- f:", "    fork:", f"      compete: {compete}".lower(), "      branches:", *lines, after]
    )


def later(name: str, seconds: float, task: str) -> str:
    """A branch whose task comes after a while."""
    return f"{name}: {{do: [{{w: {{wait: PT{seconds}S}}}}, {{s: {task}}}]}}"


NESTED = """
do:
- t:
    try:
    - l:
        for: {each: x, in: '[1, 2]'}
        do:
        - f:
            fork:
              branches:
              - a: {set: '${ $x }'}
              - b: {fork: {branches: [{c: {set: '${ $x * 10 }'}}, {d: {set: '${ $x * 100 }'}}]}}
            export: {as: '$context + {seen: (($context.seen // []) + [$output])}'}
    catch: {}
- l: {set: '${ $context.seen }'}
"""


@pytest.mark.requirement("fork.array", "fork.compete")
@pytest.mark.parametrize(
    ("document", "output"),
    [
        # In the order of the document, whichever ends first.
        (forks(later("a", 0.2, "{set: {n: 1}}"), "b: {set: '${ .n + 1 }'}"), [{"n": 1}, 6]),
        (forks("a: {set: '${ . }'}", "b: {if: 'false', set: {n: 9}}"), [{"n": 5}, {"n": 5}]),
        # What a branch gives is its task's transformed output.
        (forks("a: {set: {n: 1}, output: {as: .n}}", "b: {set: {n: 2}, output: {as: .n}}"), [1, 2]),
        # A branch ends with its task, whatever it says but `end`.
        (forks("a: {set: {n: 1}, then: exit}", "b: {set: {n: 2}}", after="- l: {set: '${ map(.n) }'}"), [1, 2]),
        (forks("a: {do: [{x: {set: {n: 1}, then: exit}}, {y: {set: {n: 9}}}]}", "b: {set: '${ 2 }'}"), [{"n": 1}, 2]),
        (forks("a: {set: '${ 1 }'}"), [1]),
        # The first to complete wins.
        (forks(f"a: {FOR_EVER}", "b: {set: {won: b}}", compete=True), {"won": "b"}),
        (forks(later("a", 0.5, "{set: {n: 1}}"), later("b", 0.01, "{set: {n: 2}}"), compete=True), {"n": 2}),
        # `end` ends the workflow, also out of a branch.
        (
            forks(f"a: {FOR_EVER}", later("b", 0.01, "{set: {the: end}, then: end}"), after="- x: {wait: P1D}"),
            {"the": "end"},
        ),
        # There is one context.
        (
            forks(
                later("a", 0.1, "{set: {n: 1}, export: {as: '$context + {a: .n}'}}"),
                "b: {set: {n: 2}, export: {as: '$context + {b: .n}'}}",
                after="- l: {set: '${ $context }'}",
            ),
            {"n": 5, "a": 1, "b": 2},
        ),
        # Forks in forks in loops in tries.
        (NESTED, [[1, [10, 100]], [2, [20, 200]]]),
    ],
)
async def test_a_fork_gives(runs: Runs, document: str, output: Any) -> None:
    assert await runs.output(document, {"n": 5}) == output


@pytest.mark.requirement("fork")
async def test_calls_of_branches_are_made_at_the_same_time(runs: Runs, site: Site) -> None:
    together = asyncio.Barrier(5)

    async def meet(request: Request) -> Response:
        await together.wait()
        return Response(request.json)

    site.page("/meet", meet)
    branches = [
        f"b{n}: {{call: http, with: {{method: post, endpoint: {site.url}/meet, body: {{n: {n}}}}}}}" for n in range(5)
    ]
    assert await runs.output(forks(*branches)) == [{"n": n} for n in range(5)]


@pytest.mark.requirement("report.tasks")
async def test_branches_are_reported_under_their_fork_with_iteration_and_attempt(runs: Runs) -> None:
    execution = await runs.run(
        """
do:
- l:
    for: {in: '[7, 8]'}
    do:
    - f: {fork: {branches: [{a: {set: {n: 1}}}, {b: {do: [{c: {set: {n: 2}}}]}}]}}
"""
    )
    assert list(execution.reported) == [
        "/do/0/l",
        *(
            f"/do/0/l[{index}]/do/0/f{rest}"
            for index in (0, 1)
            for rest in ("", *(f"/fork/branches/{branch}" for branch in ("0/a", "1/b", "1/b/do/0/c")))
        ),
    ]
    task = execution.reported["/do/0/l[1]/do/0/f/fork/branches/1/b/do/0/c"]
    assert task.parent_id == "/do/0/l[1]/do/0/f/fork/branches/1/b"
    assert (task.reference, task.iteration) == ("/do/0/l/do/0/f/fork/branches/1/b/do/0/c", 1)
    fork = execution.reported["/do/0/l[1]/do/0/f"]
    assert (fork.kind, fork.task_type, fork.status) == ("fork", 5, COMPLETED)


async def test_a_fault_of_a_branch_fails_the_fork_and_cancels_the_others(runs: Runs, site: Site) -> None:
    gone = asyncio.Event()

    async def slow(_: Request) -> Response:
        await asyncio.sleep(30)
        gone.set()
        return Response({})

    site.page("/slow", slow)
    execution = await runs.run(
        forks(
            f"a: {{do: [{{w: {FOR_EVER}}}]}}",
            f"b: {{call: http, with: {{method: post, endpoint: {site.url}/slow}}}}",
            later("c", 0.1, "{raise: {error: {type: 'https://x/boom', status: 418}}}"),
        )
    )
    assert execution.phase == "FAILED"
    assert (execution.error["type"], execution.error["instance"]) == (
        "https://x/boom",
        "/do/0/f/fork/branches/2/c/do/1/s",
    )
    assert set(statuses(execution).values()) == {COMPLETED, FAILED}
    assert "cancelled" in execution.reported["/do/0/f/fork/branches/0/a/do/0/w"].error
    assert "cancelled" in execution.reported["/do/0/f/fork/branches/1/b"].error
    assert not gone.is_set()


@pytest.mark.requirement("fork.compete")
async def test_the_losers_of_a_race_are_cancelled_at_once(runs: Runs) -> None:
    execution = await runs.run(
        forks(
            f"slow: {{do: [{{w: {FOR_EVER}}}]}}",
            "listens: {listen: {to: {one: {with: {type: signal, id: go}}}}}",
            later("quick", 0.05, "{set: {won: true}}"),
            compete=True,
        )
    )
    assert execution.output == {"won": True}
    reported = statuses(execution)
    at = "/do/0/f/fork/branches/"
    assert [reported[at + name] for name in ("0/slow", "0/slow/do/0/w", "1/listens", "2/quick")] == [4, 4, 4, 3]
    assert reported["/do/0/f"] == COMPLETED


async def test_a_fault_ends_a_race_too(runs: Runs) -> None:
    faults = "b: {raise: {error: {type: 'https://x/b', status: 418}}}"
    error = await runs.error(forks(f"a: {FOR_EVER}", faults, compete=True))
    assert error["status"] == 418


async def test_a_fork_in_a_try_is_tried_again(runs: Runs, site: Site) -> None:
    echo(site)
    answers = iter([Response({}, 500), Response({"n": 2})])
    site.page("/flaky", lambda _: next(answers))
    execution = await runs.run(
        f"""
do:
- t:
    try:
    - f:
        fork:
          branches:
          - a: {echoing(site, "{n: 1}")}
          - b: {{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}
    catch: {{retry: {{limit: {{attempt: {{count: 3}}}}}}}}
"""
    )
    assert execution.output == [{"n": 1}, {"n": 2}]
    assert execution.reported["/do/0/t~2/try/0/f/fork/branches/1/b"].attempt == 2


@pytest.mark.requirement("timeout.error")
async def test_a_time_limit_cancels_all_branches(runs: Runs) -> None:
    output = await runs.output(
        f"""
do:
- t:
    try: [{{f: {{timeout: {{after: PT0.1S}}, fork: {{branches: [{{a: {FOR_EVER}}}, {{b: {FOR_EVER}}}]}}}}}}]
    catch: {{do: [{{tell: {{set: {{status: '${{ $error.status }}'}}}}}}]}}
"""
    )
    assert output == {"status": 408}


async def test_a_cancelled_run_cancels_all_branches(runs: Runs, peer: PeerServer) -> None:
    execution = runs.add(forks(f"a: {FOR_EVER}", f"b: {FOR_EVER}"))
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: len(seen.reported) == 3)
    await handle.cancel()
    await peer.until(execution, lambda seen: seen.phase == "CANCELLED")
    assert set(statuses(execution).values()) == {FAILED}


async def test_a_pause_holds_all_branches(runs: Runs, peer: PeerServer, site: Site) -> None:
    echo(site)
    branches = [later(name, 0.6, echoing(site, f"{{name: {name}}}")) for name in ("a", "b")]
    execution = runs.add(forks(*branches))
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: len(seen.reported) == 5)
    await handle.signal(names.PAUSE, {"id": "p"})
    await peer.until(execution, lambda seen: seen.phase == "PAUSED")
    await peer.until(execution, lambda seen: list(statuses(seen).values()).count(COMPLETED) == 2)
    assert site.seen("/echo") == []
    await handle.signal(names.RESUME, {"id": "r"})
    assert await ended(handle) == [{"name": "a"}, {"name": "b"}]
    assert [update.phase for update in execution.updates].count(7) == 1


async def test_a_thousand_branches_are_done(runs: Runs) -> None:
    branches = [f"b{n}: {{set: '${{ {n} }}'}}" for n in range(1000)]
    assert await runs.output(forks(*branches)) == list(range(1000))


async def test_branches_that_compute_for_long_take_turns(runs: Runs) -> None:
    loop = "{for: {in: '[range(400)]'}, do: [{s: {set: '${ . + 1 }'}}]}"
    assert await runs.output(forks(*(f"b{n}: {loop}" for n in range(4))), 0) == [400] * 4


async def runs_of(client: Client, execution: Execution) -> list[str]:
    """The runs that the execution took, from their histories."""
    handle = client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}")
    found = [(await handle.describe()).raw_description.workflow_execution_info.first_run_id]
    while True:
        history = await client.get_workflow_handle(handle.id, run_id=found[-1]).fetch_history()
        after = history.events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        if not after:
            return found
        found.append(after)


BUSY = """{for: {in: '[range(5)]', at: i}, do: [
          {call: POST}, {pause: {wait: PT0.001S}}, {add: {set: {n: '${ .n + 1 }'}}}]}"""


async def test_a_fork_goes_on_in_a_new_history_while_branches_wait_listen_and_hold(
    start_runner: StartRunner, client: Client, site: Site
) -> None:
    echo(site)
    runs = await start_runner(max_history_events=40)
    send = echoing(site, """{n: '${ .n }'}""")
    busy = BUSY.replace("{call: POST}", f"{{send: {send}}}")
    retries = (
        "{try: [{flaky: {call: http, with: {method: post, endpoint: SITE/flaky}}}], "
        "catch: {retry: {delay: PT1S, limit: {attempt: {count: 3}}}}}"
    ).replace("SITE", site.url)
    answers = iter([Response({}, 500), Response({"ok": True})])
    site.page("/flaky", lambda _: next(answers))
    execution = runs.add(
        forks(
            later("sleeps", 1.5, "{set: {slept: true}}"),
            "listens: {listen: {to: {one: {with: {type: signal, id: go}}}}}",
            f"busy: {busy}",
            f"nested: {{fork: {{branches: [{{again: {busy}}}, {{{later('dozes', 1, '{set: {dozed: true}}')}}}]}}}}",
            f"retries: {retries}",
        ),
        {"n": 0},
    )
    handle = await runs.start(execution)
    await runs.peer.until(execution, lambda seen: statuses(seen).get("/do/0/f/fork/branches/2/busy") == COMPLETED)
    await client.get_workflow_handle(handle.id).signal(names.SIGNAL, {"id": "s", "name": "go", "payload": "gone"})
    output = await ended(client.get_workflow_handle(handle.id))
    assert output == [{"slept": True}, ["gone"], {"n": 5}, [{"n": 5}, {"dozed": True}], {"ok": True}]
    assert len(await runs_of(client, execution)) > 1
    # Nothing was done twice.
    assert sorted(request.json["n"] for request in site.seen("/echo")) == sorted([*range(5), *range(5)])
    assert len(site.seen("/flaky")) == 2
    assert set(statuses(execution).values()) == {COMPLETED, FAILED}
    assert [name for name, status in statuses(execution).items() if status == FAILED] == [
        "/do/0/f/fork/branches/4/retries/try/0/flaky"
    ]


async def test_a_race_is_won_in_a_later_history(start_runner: StartRunner, client: Client) -> None:
    runs = await start_runner(max_history_events=30)
    pauses = ", ".join(f"{{p{n}: {{wait: PT0.01S}}}}" for n in range(20))
    execution = await runs.run(
        forks(f"slow: {{do: [{{w: {FOR_EVER}}}]}}", f"wins: {{do: [{pauses}, {{s: {{set: {{n: 1}}}}}}]}}", compete=True)
    )
    assert execution.output == {"n": 1}
    assert len(await runs_of(client, execution)) > 1
    at = "/do/0/f/fork/branches/0/slow"
    assert [statuses(execution)[name] for name in (at, f"{at}/do/0/w")] == [FAILED, FAILED]


async def test_a_failed_fork_is_recovered_where_each_branch_was(runs: Runs, site: Site) -> None:
    echo(site)
    answers = iter([Response({}, 500), Response({"n": 3})])
    site.page("/flaky", lambda _: next(answers))
    flaky = f"{{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}"
    execution = await runs.run(
        f"""
do:
- f:
    fork:
      branches:
      - done: {echoing(site, "{n: 1}")}
      - fails: {{do: [{{first: {echoing(site, "{n: 2}")}}}, {{w: {{wait: PT0.3S}}}}, {{flaky: {flaky}}}]}}
      - waits: {{do: [{{before: {echoing(site, "{n: 4}")}}}, {{w: {{wait: PT0.6S}}}}, {{s: {{set: {{n: 5}}}}}}]}}
- last: {{set: '${{ map(.n) }}'}}
"""
    )
    assert execution.phase == "FAILED"
    place = next(item for item in execution.checkpoints[-1].positions if item.failed)
    assert place.reference == "/do/0/f/fork/branches/1/fails/do/2/flaky"
    assert await ended(await runs.recover(execution)) == [1, 3, 5]
    # Each once; which of them comes first is up to them.
    assert sorted(request.json["n"] for request in site.seen("/echo")) == [1, 2, 4]
    assert set(statuses(execution).values()) == {COMPLETED}


async def test_a_run_begins_again_with_a_task_in_a_branch(runs: Runs, site: Site) -> None:
    echo(site)
    answers = iter([Response({}, 500), Response({"n": 9})])
    site.page("/flaky", lambda _: next(answers))
    flaky = f"{{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}"
    execution = await runs.run(
        f"""
do:
- f:
    fork:
      branches:
      - a: {echoing(site, "{n: 1}")}
      - b: {{do: [{{first: {echoing(site, "{n: 2}")}}}, {{second: {echoing(site, "{n: 3}")}}}]}}
- flaky: {flaky}
"""
    )
    assert execution.phase == "FAILED"
    assert await ended(await runs.recover(execution, "/do/0/f/fork/branches/1/b/do/1/second")) == {"n": 9}
    # What stood before it in its branch is kept; the branches beside it begin anew.
    assert sorted(request.json["n"] for request in site.seen("/echo")) == [1, 1, 2, 3, 3]


async def test_a_branch_that_ended_is_reported_while_others_wait(runs: Runs, peer: PeerServer) -> None:
    listens = "listens: {listen: {to: {one: {with: {type: signal, id: go}}}}}"
    execution = runs.add(forks(listens, later("ends", 0.1, "{set: {n: 1}}")))
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: statuses(seen).get("/do/0/f/fork/branches/1/ends") == COMPLETED)
    await handle.signal(names.SIGNAL, {"id": "s", "name": "go", "payload": 1})
    assert await ended(handle) == [[1], {"n": 1}]
