"""Raising, catching and trying again."""

from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from workflow_runner import names
from workflow_runner.testing import Response, Runs, Site

NOT_FOUND = "https://example.com/errors/not-found"


def raising(status: int = 404, catch: str = "{}", *, rest: str = "") -> str:
    return f"""
do:
- attempt:
    try:
    - boom:
        raise:
          error: {{type: {NOT_FOUND}, status: {status}, title: '${{ "No " + .what }}', detail: gone}}
    catch: {catch}
{rest}
"""


@pytest.mark.requirement("raise.inline")
async def test_an_inline_error_is_raised_with_its_texts_evaluated(runs: Runs) -> None:
    error = await runs.error(
        f"do:\n- boom: {{raise: {{error: {{type: {NOT_FOUND}, status: 404, title: '${{ .what }}', detail: gone}}}}}}",
        {"what": "No pet"},
    )
    assert error == {"type": NOT_FOUND, "status": 404, "title": "No pet", "detail": "gone", "instance": "/do/0/boom"}


@pytest.mark.requirement("raise.inline")
async def test_what_an_error_is_raised_with_is_json_where_it_is_no_text(runs: Runs) -> None:
    error = await runs.error(
        "do:\n- no: {raise: {error: {type: 'https://x.example/no', status: 400, title: '${ .a }', detail: '${ .b }'}}}",
        {"a": {"it's": [True, None, "é"]}, "b": False},
    )
    assert (error["title"], error["detail"]) == ('{"it\'s": [true, null, "é"]}', "false")


@pytest.mark.requirement("raise.by-name")
async def test_an_error_is_raised_by_its_name(runs: Runs) -> None:
    error = await runs.error(
        f"use: {{errors: {{lost: {{type: {NOT_FOUND}, status: 410}}}}}}\ndo:\n- boom: {{raise: {{error: lost}}}}"
    )
    assert (error["type"], error["status"]) == (NOT_FOUND, 410)


@pytest.mark.requirement("catch.as", "catch.do")
async def test_a_caught_error_is_seen_by_its_variable_and_the_flow_goes_on(runs: Runs) -> None:
    execution = await runs.run(
        raising(catch="{as: oops, do: [{tell: {set: {status: '${ $oops.status }', where: '${ $oops.instance }'}}}]}"),
        {"what": "pet"},
    )
    assert execution.output == {"status": 404, "where": "/do/0/attempt/try/0/boom"}
    assert {task.task_id: task.status for task in execution.reported.values()} == {
        "/do/0/attempt": 3,
        "/do/0/attempt/try/0/boom": 4,
        "/do/0/attempt/catch/do/0/tell": 3,
    }


async def test_a_caught_error_with_nothing_to_do_passes_the_input_through(runs: Runs) -> None:
    assert await runs.output(raising(), {"what": "pet"}) == {"what": "pet"}


@pytest.mark.requirement("catch.filter")
@pytest.mark.parametrize(
    ("catch", "caught"),
    [
        ("{errors: {with: {status: 404}}}", True),
        ("{errors: {with: {status: 500}}}", False),
        (f"{{errors: {{with: {{type: {NOT_FOUND}, title: No pet}}}}}}", True),
        ("{errors: {with: {detail: other}}}", False),
        ("{errors: {with: {instance: /do/0/attempt/try/0/boom}}}", True),
        ("{when: $error.status == 404}", True),
        ("{when: '${ $error.status == 500 }'}", False),
        ('{when: .what == "pet"}', True),
        ("{exceptWhen: $error.status == 404}", False),
        ("{as: e, exceptWhen: $e.status == 500}", True),
    ],
)
async def test_catch_filters_what_it_catches(runs: Runs, catch: str, caught: bool) -> None:
    execution = await runs.run(raising(catch=catch), {"what": "pet"})
    assert execution.phase == ("COMPLETED" if caught else "FAILED")


@pytest.mark.requirement("error.hosts")
@pytest.mark.parametrize("host", ["serverlessworkflow.io", "open-workflow-specification.org"])
async def test_a_standard_type_is_caught_under_both_of_its_hosts(runs: Runs, host: str) -> None:
    definition = f"""
do:
- attempt:
    try: [{{bad: {{set: {{a: '${{ .a.b }}'}}}}}}]
    catch:
      errors: {{with: {{type: https://{host}/spec/1.0.0/errors/expression}}}}
      do: [{{ok: {{set: {{ok: true}}}}}}]
"""
    assert await runs.output(definition, {"a": 1}) == {"ok": True}


@pytest.mark.requirement("catch.then")
async def test_catch_then_says_where_the_flow_goes(runs: Runs) -> None:
    rest = "- never: {set: {n: 1}}\n- last: {set: {n: 2}}"
    assert await runs.output(raising(catch="{then: last}", rest=rest), {"what": "pet"}) == {"n": 2}


@pytest.mark.requirement("retry.attempts")
async def test_a_retry_runs_the_tasks_again_as_often_as_it_says_then_the_error_stands(runs: Runs) -> None:
    execution = await runs.run(
        raising(catch="{retry: {delay: {milliseconds: 1}, limit: {attempt: {count: 2}}}}"), {"what": "pet"}
    )
    assert execution.phase == "FAILED"
    assert [(task.task_id, task.attempt) for task in execution.reported.values()] == [
        ("/do/0/attempt", 3),
        ("/do/0/attempt/try/0/boom", 1),
        ("/do/0/attempt~2/try/0/boom", 2),
        ("/do/0/attempt~3/try/0/boom", 3),
    ]


@pytest.mark.requirement("catch.do")
async def test_after_the_last_retry_catch_do_is_done(runs: Runs) -> None:
    catch = "{retry: {limit: {attempt: {count: 1}}}, do: [{tell: {set: {n: '${ $error.status }'}}}]}"
    execution = await runs.run(raising(catch=catch), {"what": "pet"})
    assert execution.output == {"n": 404}
    assert "/do/0/attempt~2/catch/do/0/tell" in execution.reported


@pytest.mark.requirement("try.passes", "use.retries")
async def test_a_retry_that_succeeds_gives_its_output(runs: Runs, site: Site) -> None:
    answers = iter([Response({}, 503), Response({}, 503), Response({"ok": True})])
    site.page("/flaky", lambda _: next(answers))
    definition = f"""
use:
  retries:
    patient: {{delay: PT0.01S, backoff: {{exponential: {{}}}}, limit: {{attempt: {{count: 5}}}}}}
do:
- attempt:
    try: [{{get: {{call: http, with: {{method: get, endpoint: {site.url}/flaky}}}}}}]
    catch: {{errors: {{with: {{status: 503}}}}, retry: patient}}
"""
    assert await runs.output(definition) == {"ok": True}
    assert len(site.seen("/flaky")) == 3


@pytest.mark.requirement("retry.backoff", "retry.jitter")
@pytest.mark.parametrize(
    ("policy", "least", "most"),
    [
        ("delay: PT0.04S", [40, 40, 40], [40, 40, 40]),
        ("delay: PT0.04S, backoff: {constant: {}}", [40, 40, 40], [40, 40, 40]),
        ("delay: PT0.04S, backoff: {linear: {}}", [40, 80, 120], [40, 80, 120]),
        ("delay: PT0.04S, backoff: {exponential: {}}", [40, 80, 160], [40, 80, 160]),
        ("delay: PT0.04S, jitter: {from: {milliseconds: 10}, to: PT0.03S}", [50, 50, 50], [70, 70, 70]),
    ],
)
async def test_the_delay_of_a_retry_grows_and_varies_as_its_policy_says(
    runs: Runs, policy: str, least: list[int], most: list[int]
) -> None:
    catch = f"{{retry: {{{policy}, limit: {{attempt: {{count: 3}}}}}}}}"
    execution = await runs.run(raising(catch=catch), {"what": "pet"})
    handle = runs.client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}")
    delays = [
        round(event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta() / timedelta(milliseconds=1))
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED
    ]
    assert len(delays) == 3
    assert all(low <= delay <= high for low, delay, high in zip(least, delays, most, strict=True)), delays


@pytest.mark.requirement("retry.when")
@pytest.mark.parametrize("condition", ["when: $error.status == 500", "exceptWhen: $error.status == 404"])
async def test_a_retry_has_conditions_of_its_own(runs: Runs, condition: str) -> None:
    catch = f"{{retry: {{{condition}, limit: {{attempt: {{count: 3}}}}}}}}"
    execution = await runs.run(raising(catch=catch), {"what": "pet"})
    assert execution.phase == "FAILED"
    assert len(execution.reported) == 2


@pytest.mark.requirement("retry.limit")
async def test_no_retry_begins_after_the_limit_of_time(runs: Runs) -> None:
    catch = "{retry: {delay: {seconds: 30}, limit: {duration: {seconds: 5}}}}"
    execution = await runs.run(raising(catch=catch), {"what": "pet"})
    assert execution.phase == "FAILED"
    assert len(execution.reported) == 2


@pytest.mark.requirement("retry.limit")
async def test_an_attempt_has_a_limit_of_time(runs: Runs) -> None:
    output = await runs.output(
        """
do:
- attempt:
    try: [{long: {wait: {seconds: 30}}}]
    catch:
      retry: {limit: {attempt: {count: 1, duration: {milliseconds: 50}}}}
      do: [{tell: {set: {type: '${ $error.type }', detail: '${ $error.detail }'}}}]
"""
    )
    assert output["type"].endswith("/errors/timeout")
    assert "attempt 2 took longer than 0.05 s" in output["detail"]


@pytest.mark.requirement("timeout.task", "timeout.error", "use.timeouts")
async def test_a_task_has_a_timeout_that_can_be_caught(runs: Runs) -> None:
    execution = await runs.run(
        """
use: {timeouts: {short: {after: {milliseconds: 50}}}}
do:
- attempt:
    try: [{slow: {timeout: short, do: [{long: {wait: PT30S}}]}}]
    catch: {errors: {with: {status: 408}}, do: [{tell: {set: {at: '${ $error.instance }'}}}]}
"""
    )
    assert execution.output == {"at": "/do/0/attempt/try/0/slow"}
    assert execution.reported["/do/0/attempt/try/0/slow/do/0/long"].status == 4


@pytest.mark.requirement("timeout.workflow", "timeout.error")
async def test_the_workflow_has_a_timeout(runs: Runs) -> None:
    error = await runs.error("timeout: {after: {milliseconds: 50}}\ndo:\n- long: {wait: {seconds: 30}}")
    assert error["type"].endswith("/errors/timeout")
    assert error["status"] == 408


@pytest.mark.requirement("wait.passes")
@pytest.mark.parametrize("length", ["{milliseconds: 20}", "PT0.02S", "'${ .length }'", "{milliseconds: 5, seconds: 0}"])
async def test_a_wait_takes_a_duration_in_every_form_and_outputs_its_input(runs: Runs, length: str) -> None:
    data = {"length": "PT0.02S"}
    assert await runs.output(f"do:\n- pause: {{wait: {length}}}", data) == data


async def test_a_wait_on_what_is_no_duration_is_a_clear_error(runs: Runs) -> None:
    error = await runs.error("do:\n- pause: {wait: '${ .length }'}", {"length": "soon"})
    assert error["type"].endswith("/errors/expression")
    assert "'soon'" in error["detail"]
