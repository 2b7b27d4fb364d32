"""Long runs go on in a new history and lose nothing on the way."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client
from workflow_runner import names
from workflow_runner.testing import Execution, Response, Runs, Site, StartRunner

EVENTS = 20
"""Events a history may have in these tests: a handful of tasks."""


async def runs_of(client: Client, execution: Execution) -> int:
    """How many runs the execution took."""
    query = f'WorkflowId = "{names.WORKFLOW}/{execution.id}"'
    return len([found async for found in client.list_workflows(query)])


async def until_listed(client: Client, execution: Execution, least: int) -> int:
    """Listing is eventually consistent: wait for it, a while."""
    async with asyncio.timeout(30):
        while (count := await runs_of(client, execution)) < least:  # noqa: ASYNC110 - the server offers no event
            await asyncio.sleep(0.1)
    return count


def statuses(execution: Execution) -> set[int]:
    return {task.status for task in execution.reported.values()}


def reports_by_task(execution: Execution) -> dict[str, list[int]]:
    seen: dict[str, list[int]] = {}
    for update in execution.updates:
        for task in update.tasks:
            seen.setdefault(task.task_id, []).append(task.status)
    return seen


@pytest.mark.requirement("durable.continued")
async def test_a_loop_in_a_try_in_a_do_goes_on_where_it_was(
    start_runner: StartRunner, client: Client, site: Site
) -> None:
    runs = await start_runner(max_history_events=EVENTS)
    site.page("/n", lambda request: Response(request.json))
    execution = await runs.run(
        f"""
do:
- begin: {{set: {{sum: 0}}, export: {{as: '{{seen: []}}'}}}}
- outer:
    do:
    - attempt:
        try:
        - loop:
            for: {{each: n, in: '[range(12)]', at: place}}
            do:
            - send: {{call: http, with: {{method: post, endpoint: {site.url}/n,
                body: {{sum: '${{ .sum + $n }}', place: '${{ $place }}'}}}}}}
            - keep: {{set: '${{ . }}', export: {{as: '{{seen: ($context.seen + [$output.place])}}'}}}}
            - pause: {{wait: {{milliseconds: 1}}}}
        catch: {{do: [{{never: {{set: {{n: 1}}}}}}]}}
- last: {{set: {{sum: '${{ .sum }}', seen: '${{ $context.seen }}'}}}}
"""
    )
    assert execution.output == {"sum": 66, "seen": list(range(12))}
    assert [request.json["place"] for request in site.seen("/n")] == list(range(12))
    assert await until_listed(client, execution, 4) >= 4
    assert statuses(execution) == {3}
    assert len(execution.reported) == 1 + 1 + 1 + 1 + 12 * 3 + 1
    # Nothing was reported as done and then began again.
    assert all(3 not in each[:-1] for each in reports_by_task(execution).values())


async def test_a_fault_after_a_continuation_is_caught_by_the_try_of_the_first_run(
    start_runner: StartRunner, client: Client
) -> None:
    runs = await start_runner(max_history_events=EVENTS)
    pauses = "\n".join(f"    - pause{index}: {{wait: {{milliseconds: 1}}}}" for index in range(8))
    execution = await runs.run(
        f"""
do:
- attempt:
    try:
{pauses}
    - boom: {{raise: {{error: {{type: 'https://example.com/boom', status: 418}}}}}}
    catch:
      retry: {{limit: {{attempt: {{count: 1}}}}}}
      do:
{pauses.replace("    -", "      -")}
      - tell: {{set: {{status: '${{ $error.status }}', input: '${{ . }}'}}}}
""",
        {"in": 1},
    )
    assert execution.output == {"status": 418, "input": {"in": 1}}
    assert await until_listed(client, execution, 3) >= 3
    assert execution.reported["/do/0/attempt~2/try/8/boom"].attempt == 2
    assert execution.reported["/do/0/attempt"].attempt == 2
    assert len(execution.reported) == 1 + 9 + 9 + 9


@pytest.mark.requirement("durable.continued", "flow.bounded")
async def test_jumps_are_counted_across_runs_and_visits_keep_their_names(start_runner: StartRunner) -> None:
    runs = await start_runner(max_history_events=EVENTS, max_backward_jumps=9)
    definition = """
do:
- pause: {wait: {milliseconds: 1}}
- add: {set: {n: '${ .n + 1 }'}}
- again: {if: .n < LIMIT, set: '${ . }', then: pause}
"""
    execution = await runs.run(definition.replace("LIMIT", "9"), {"n": 0})
    assert execution.output == {"n": 9}
    assert len([name for name in execution.reported if name.startswith("/do/1/add")]) == 9
    error = await runs.error(definition.replace("LIMIT", "100"), {"n": 0})
    assert "more than 9 jumps backwards" in error["detail"]


async def test_time_limits_count_on_across_runs(start_runner: StartRunner) -> None:
    runs = await start_runner(max_history_events=EVENTS)
    pauses = "\n".join(f"    - pause{index}: {{wait: {{milliseconds: 100}}}}" for index in range(60))
    error = await runs.error(f"do:\n- slow:\n    timeout: {{after: {{seconds: 2}}}}\n    do:\n{pauses}")
    assert error["type"].endswith("/errors/timeout")
    assert error["instance"] == "/do/0/slow"


async def test_the_start_and_the_input_of_the_run_stay_the_same(start_runner: StartRunner) -> None:
    runs = await start_runner(max_history_events=EVENTS)
    pauses = "\n".join(f"- pause{index}: {{wait: {{milliseconds: 5}}}}" for index in range(10))
    execution = await runs.run(
        f"""
do:
- first: {{set: {{began: '${{ $workflow.startedAt.iso8601 }}'}}}}
{pauses}
- last: {{set: {{began: '${{ .began }}', now: '${{ $workflow.startedAt.iso8601 }}', input: '${{ $workflow.input }}'}}}}
""",
        {"n": 1},
    )
    output: dict[str, Any] = execution.output
    assert output["began"] == output["now"]
    assert output["input"] == {"n": 1}
    assert len({update.started_at for update in execution.updates if update.started_at}) == 1


async def test_a_loop_of_thousands_of_pure_passes_ends_and_reports_all_of_them(runs: Runs) -> None:
    execution = await runs.run(
        """
do:
- loop: {for: {in: '[range(3000)]'}, do: [{add: {set: {n: '${ .n + 1 }'}}}]}
""",
        {"n": 0},
    )
    assert execution.output == {"n": 3000}
    assert len(execution.reported) == 3001
