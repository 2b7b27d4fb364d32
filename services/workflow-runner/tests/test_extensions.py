"""What a document has done before and after its tasks."""

from typing import Any

import pytest
from workflow_runner.testing import Response, Runs, Site, StartRunner

DOCUMENT = """
use:
  extensions:
  - log:
      extend: KIND
      before:
      - say: {call: http, with: {method: post, endpoint: LOG, body: {before: '${ $task.reference }', sees: '${ . }'}}}
      after:
      - say: {call: http, with: {method: post, endpoint: LOG, body: {after: '${ $task.reference }', sees: '${ . }'}}}
"""


def logging(site: Site, kind: str = "all") -> str:
    site.page("/log", Response({"logged": True}))
    return DOCUMENT.replace("LOG", f"{site.url}/log").replace("KIND", kind)


def logged(site: Site) -> list[Any]:
    return [request.json for request in site.seen("/log")]


@pytest.mark.requirement("extension.around")
async def test_tasks_are_done_before_and_after_others_and_change_nothing_of_what_these_give(
    runs: Runs, site: Site
) -> None:
    execution = await runs.run(
        f"{logging(site)}do:\n- a: {{set: {{n: '${{ .n + 1 }}'}}}}\n- b: {{set: '${{ . }}'}}", {"n": 1}
    )
    assert execution.output == {"n": 2}
    assert logged(site) == [
        {"before": "/do/0/a", "sees": {"n": 1}},
        {"after": "/do/0/a", "sees": {"n": 2}},
        {"before": "/do/1/b", "sees": {"n": 2}},
        {"after": "/do/1/b", "sees": {"n": 2}},
    ]
    task = execution.reported["/do/0/a@log/before/0/say"]
    assert (task.parent_id, task.reference) == ("/do/0/a", "/use/extensions/0/log/before/0/say")
    assert {task.status for task in execution.reported.values()} == {3}


@pytest.mark.requirement("extension.around")
@pytest.mark.parametrize(
    ("kind", "references"),
    [
        ("all", ["/do/0/l", "/do/0/l/do/0/f", "/do/0/l/do/0/f/fork/branches/0/s", "/do/1/d", "/do/1/d/do/0/s"]),
        ("set", ["/do/0/l/do/0/f/fork/branches/0/s", "/do/1/d/do/0/s"]),
        ("for", ["/do/0/l"]),
        ("composite", ["/do/0/l/do/0/f", "/do/1/d"]),
        ("call", []),
    ],
)
async def test_an_extension_is_for_tasks_of_a_kind_at_any_depth(
    runs: Runs, site: Site, kind: str, references: list[str]
) -> None:
    document = """
do:
- l: {for: {in: '[1]'}, do: [{f: {fork: {branches: [{s: {set: {n: 1}}}]}}}]}
- d: {do: [{s: {set: {n: 1}}}]}
"""
    await runs.output(logging(site, kind) + document)
    assert [item["before"] for item in logged(site) if "before" in item] == references


@pytest.mark.requirement("extension.exit", "extension.around")
async def test_an_extension_may_stand_for_the_task(runs: Runs, site: Site) -> None:
    document = f"""
use:
  extensions:
  - mock:
      extend: call
      when: $task.definition.with.endpoint == "{site.url}/real" and .mock
      before: [{{say: {{set: {{name: Rex}}, then: exit}}}}, {{never: {{set: {{n: 1}}}}}}]
do:
- get: {{call: http, with: {{method: get, endpoint: '{site.url}/real'}}, output: {{as: .name}}}}
"""
    site.page("/real", {"name": "Real"})
    assert await runs.output(document, {"mock": True}) == "Rex"
    assert site.seen("/real") == []
    assert await runs.output(document, {"mock": False}) == "Real"


async def test_extensions_go_around_each_other(runs: Runs) -> None:
    keep = "set: '${{ . }}', export: {{as: '{{seen: (($context.seen // []) + [\"{}\"])}}'}}"
    parts = "".join(
        f"""
  - {name}:
      extend: set
      before: [{{s: {{{keep.format(name + "+")}}}}}]
      after: [{{s: {{{keep.format(name + "-")}}}}}]"""
        for name in ("x", "y")
    )
    output = await runs.output(
        f"use:\n  extensions:{parts}\ndo:\n- a: {{set: {{n: 1}}}}\noutput: {{as: $context.seen}}", {}
    )
    assert output == ["x+", "y+", "y-", "x-"]


@pytest.mark.requirement("extension.fault")
async def test_a_fault_of_an_extension_is_one_of_the_task(runs: Runs) -> None:
    output = await runs.output(
        """
use:
  extensions:
  - guard:
      extend: set
      when: .forbidden
      before: [{refuse: {raise: {error: {type: 'https://x/no', status: 403}}}}]
do:
- t:
    try: [{a: {set: {n: 1}}}]
    catch: {as: found, do: [{tell: {wait: PT0S, output: {as: $found.instance}}}]}
""",
        {"forbidden": True},
    )
    assert output == "/use/extensions/0/guard/before/0/refuse"


async def test_a_run_goes_on_in_the_middle_of_an_extension(start_runner: StartRunner) -> None:
    runs = await start_runner(max_history_events=20)
    waits = ", ".join(f"{{w{n}: {{wait: PT0.001S}}}}" for n in range(4))
    output = await runs.output(
        f"""
use:
  extensions:
  - slow:
      extend: set
      before: [{waits}, {{s: {{set: '${{ . }}', export: {{as: '{{n: ($context.n + 1)}}'}}}}}}]
      after: [{waits}, {{s: {{set: '${{ . }}', export: {{as: '{{n: ($context.n + 10)}}'}}}}}}]
do:
- l: {{for: {{in: '[1, 2]'}}, do: [{{a: {{set: '${{ $item }}', export: {{as: '{{n: ($context.n + 100)}}'}}}}}}]}}
output: {{as: '{{n: $context.n, last: .}}'}}
""",
        {"n": 0},
    )
    assert output == {"n": 222, "last": 2}


async def test_a_failed_extension_is_recovered_without_doing_the_task_again(runs: Runs, site: Site) -> None:
    site.page("/a", {"n": 1})
    answers = iter([Response({}, 500), Response({})])
    site.page("/flaky", lambda _: next(answers))
    execution = await runs.run(
        f"""
use:
  extensions:
  - say:
      extend: composite
      after: [{{f: {{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}}}]
do:
- d: {{do: [{{a: {{call: http, with: {{method: post, endpoint: {site.url}/a}}}}}}]}}
"""
    )
    assert execution.phase == "FAILED"
    assert await (await runs.recover(execution)).result() == {"n": 1}
    assert (len(site.seen("/a")), len(site.seen("/flaky"))) == (1, 2)
