"""Which definitions can be run, and in which forms they come."""

from typing import Any

import pytest
from stigmer_dsl import parse
from workflow_runner import unsupported
from workflow_runner.tasks import kinds
from workflow_runner.testing import HEADER, Response, Runs, Site


def problems(text: str) -> list[tuple[str, str]]:
    return [(problem.pointer, problem.message) for problem in unsupported(parse(HEADER + text))]


def test_what_can_be_run_has_no_problems() -> None:
    assert problems("do:\n- a: {do: [{b: {set: {n: 1}}}]}\n- c: {wait: PT1S}") == []


def test_the_kinds_are_the_modules_of_the_folder() -> None:
    assert sorted(task.kind for task in kinds()) == [
        "call a2a",
        "call activity",
        "call agent",
        "call asyncapi",
        "call eval",
        "call function",
        "call grpc",
        "call http",
        "call human_input",
        "call llm_call",
        "call mcp",
        "call notification",
        "call openapi",
        "call transform",
        "call validate",
        "do",
        "emit",
        "for",
        "fork",
        "listen",
        "raise",
        "run",
        "set",
        "switch",
        "try",
        "wait",
    ]


@pytest.mark.requirement("problems.unsupported")
def test_each_unsupported_part_is_named_with_its_place_at_any_depth() -> None:
    found = problems(
        """
do:
- outer:
    try:
    - inner: {do: [{hear: {listen: {to: {one: {with: {type: signal, id: a, source: b}}}}}}]}
    catch: {do: [{ask: {call: activity, with: {name: stigmer/x}}}]}
- call:
    call: http
    with:
      method: get
      endpoint: {uri: 'http://x/', authentication: {oauth2: {authority: 'http://x', grant: authorization_code}}}
"""
    )
    assert found == [
        (
            "/do/0/outer/try/0/inner/do/0/hear/listen/to/one/with",
            "task 'hear': a signal has a name and nothing else: `with: {type: signal, id: NAME}`",
        ),
        (
            "/do/0/outer/catch/do/0/ask/with/name",
            "task 'ask': 'stigmer/x' is one of Stigmer's own activities and cannot be called",
        ),
        (
            "/do/1/call/with/endpoint/authentication/oauth2/grant",
            "the grant authorization_code needs a person at a browser; use client_credentials or another",
        ),
    ]


def stored(name: str, kind: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": f"WORKFLOW_TASK_KIND_{kind}", "taskConfig": config, **more}


async def run_stored(runs: Runs, tasks: list[dict[str, Any]], data: Any = None, **more: Any) -> Any:
    execution = runs.add("", data, **more)
    execution.tasks = tasks
    handle = await runs.start(execution)
    await handle.result()
    return execution.output


@pytest.mark.requirement("stored.run")
async def test_the_stored_form_is_run_like_a_document(runs: Runs, site: Site) -> None:
    site.page("/pet", lambda request: Response({"key": request.headers["x-key"]}))
    http = {"method": "GET", "endpoint": {"uri": f"{site.url}/pet"}, "headers": {"X-Key": "k-${.secrets.TOKEN}"}}
    output = await run_stored(
        runs,
        [
            stored("begin", "SET", {"variables": {"n": "${ .n + 1 }"}}, export={"as": "${ . }"}),
            stored("fetch", "HTTP_CALL", {**http, "timeoutSeconds": 30}),
            stored("pause", "WAIT", {"seconds": 1}),
            stored("last", "SET", {"variables": {"n": "${ $context.n }", "key": "${ .key }"}}),
        ],
        {"n": 1},
        secrets={"TOKEN": "tok-1234"},
    )
    assert output == {"n": 2, "key": "k-***REDACTED***"}
    assert site.seen("/pet")[0].headers["x-key"] == "k-tok-1234"


@pytest.mark.requirement("stored.run", "stored.nested")
@pytest.mark.parametrize("count", [1, 3])
async def test_the_stored_form_nests(runs: Runs, count: int) -> None:
    add = stored("add", "SET", {"variables": {"n": "${ .n + $item }"}})
    loop = stored("loop", "FOR", {"each": "item", "in": "${ $workflow.input.items }", "do": [add]})
    assert await run_stored(runs, [loop], {"n": 0, "items": [2] * count}) == {"n": 2 * count}


async def test_a_definition_that_is_not_valid_says_all_that_is_wrong_with_it(runs: Runs) -> None:
    error = await runs.error("do:\n- a: {set: {n: 1}, then: nowhere}\n- b: {wait: soon}")
    assert error["type"].endswith("/errors/configuration")
    assert "nowhere" in error["detail"]
    assert "soon" in error["detail"]
