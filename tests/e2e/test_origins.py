"""Runs that begin with the state of an earlier one, on a real stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.testing import Cli, CountingSite, wait_until

ORDER = """\
document: {dsl: 1.0.0, namespace: e2e, name: order-NAME, version: 1.0.0}
use: {secrets: [TOKEN]}
do:
  - reserve:
      call: http
      with: {method: get, endpoint: SITE/reserve, headers: {Token: '${ $secrets.TOKEN }'}}
      export: {as: '{reserved: $input.item}'}
  - each:
      for: {in: '[1, 2]'}
      do:
        - pack: {set: {packed: '${ $item }', item: '${ $context.reserved }'}}
  - ship: SHIP
  - tell:
      set: {reserved: '${ $context.reserved }', packed: '${ .packed }', run: '${ $workflow.id }'}
"""


def made(tmp_path: Path, site: CountingSite, name: str, ship: str) -> str:
    path = tmp_path / f"{name}.yaml"
    path.write_text(ORDER.replace("SITE", site.url).replace("NAME", name).replace("SHIP", ship))
    return str(path)


def started(stack: Cli, path: str, *options: str) -> str:
    result = stack.run("run", path, "--detach", *options)
    assert result.code == 0, result.err
    return result.out.strip()


def execution(stack: Cli, identifier: str) -> Any:
    return stack.run("get", identifier, "-o", "json").json


def phase(stack: Cli, identifier: str) -> str:
    return execution(stack, identifier)["status"]["phase"].removeprefix("EXECUTION_")


def until(stack: Cli, identifier: str, wanted: str) -> None:
    wait_until(lambda: phase(stack, identifier) == wanted, lambda: f"{identifier} is {phase(stack, identifier)}")


def taken(stack: Cli, identifier: str) -> dict[str, Any]:
    """Say of each task of a run which other run did it."""
    tasks = execution(stack, identifier)["status"]["tasks"]
    return {task["task_id"]: task.get("metadata", {}).get("taken_from") for task in tasks}


FIRST = ["--input", '{"item": "book"}', "--secret", "TOKEN=tok-1234"]


@pytest.mark.slow
@pytest.mark.requirement("durable.origin")
def test_a_run_begins_where_another_failed(stack: Cli, site: CountingSite, tmp_path: Path) -> None:
    path = made(tmp_path, site, "failing", "{raise: {error: {type: 'https://example.com/x', status: 500}}}")
    earlier = started(stack, path, *FIRST)
    until(stack, earlier, "FAILED")
    before = execution(stack, earlier)
    later = started(stack, path, "--from", earlier)
    until(stack, later, "FAILED")
    assert site.calls["/reserve"] == 1
    assert taken(stack, later) == {
        "/do/0/reserve": earlier,
        "/do/1/each": earlier,
        "/do/1/each[0]/do/0/pack": earlier,
        "/do/1/each[1]/do/0/pack": earlier,
        "/do/2/ship": None,
    }
    assert "taken over" in stack.run("watch", later).err
    assert execution(stack, later)["spec"]["input"] == {"item": "book"}
    assert execution(stack, earlier) == before
    # The state is the new run's own by now, which is recovered as any other is.
    assert stack.run("delete", earlier).code == 0
    again = stack.run("recover", later, "--from-task", "pack", "--wait", "-o", "json")
    assert again.code == 1
    assert site.calls["/reserve"] == 1


@pytest.mark.slow
def test_a_run_begins_with_a_task_of_one_that_completed(stack: Cli, site: CountingSite, tmp_path: Path) -> None:
    path = made(tmp_path, site, "done", "{set: '${ . }'}")
    earlier = started(stack, path, *FIRST)
    until(stack, earlier, "COMPLETED")
    before = execution(stack, earlier)
    result = stack.run("run", path, "--from", earlier, "--from-task", "ship", "-o", "json")
    assert result.code == 0, result.err
    later = result.json["id"]
    assert result.json["output"] == {"reserved": "book", "packed": 2, "run": later}
    assert (site.calls["/reserve"], later == earlier) == (1, False)
    assert {name for name, run in taken(stack, later).items() if run is None} == {"/do/2/ship", "/do/3/tell"}
    assert execution(stack, earlier) == before
    last = stack.run("run", path, "--from", earlier, "-o", "json")
    assert last.json["output"]["packed"] == 2
    whole = stack.run("run", path, "--from", earlier, "--from-task", "/", "-o", "json")
    assert (whole.json["output"]["reserved"], site.calls["/reserve"]) == ("book", 2)


@pytest.mark.slow
def test_a_run_begins_where_another_one_is(stack: Cli, site: CountingSite, tmp_path: Path) -> None:
    path = made(
        tmp_path, site, "waiting", "{listen: {to: {one: {with: {type: signal, id: go}}}}, output: {as: $input}}"
    )
    earlier = started(stack, path, *FIRST)
    wait_until(lambda: "/do/2/ship" in taken(stack, earlier), lambda: "it does not wait")
    later = started(stack, path, "--from", earlier)
    wait_until(lambda: phase(stack, later) == "IN_PROGRESS", lambda: "it does not begin")
    assert stack.run("signal", later, "go").code == 0
    until(stack, later, "COMPLETED")
    assert phase(stack, earlier) == "IN_PROGRESS"
    assert site.calls["/reserve"] == 1
    assert stack.run("cancel", earlier, "--wait").code == 0
    of_cancelled = started(stack, path, "--from", earlier, "--from-task", "each")
    assert stack.run("signal", of_cancelled, "go").code == 0
    until(stack, of_cancelled, "COMPLETED")
    assert site.calls["/reserve"] == 1
    assert stack.run("watch", of_cancelled, "-o", "json").json["output"]["packed"] == 2


@pytest.mark.slow
def test_what_cannot_be_begun_with_is_refused_at_once(stack: Cli, site: CountingSite, tmp_path: Path) -> None:
    path = made(tmp_path, site, "refused", "{set: '${ . }'}")
    other = made(tmp_path, site, "another", "{set: '${ . }'}")
    earlier = started(stack, path, *FIRST)
    until(stack, earlier, "COMPLETED")
    refused = {
        "known to have begun task nothing": (path, "--from", earlier, "--from-task", "nothing"),
        "is a run of": (other, "--from", earlier),
        "not found": (path, "--from", "wex-01m82r6b428qhc55v1b3bm0877"),
        "without --input": (path, "--from", earlier, "--input", "{}"),
        "needs --from RUN": (path, "--from-task", "ship"),
    }
    for said, command in refused.items():
        result = stack.run("run", *command, "--detach")
        assert result.code not in (0, 1), command
        assert said in result.err.replace("\n", " "), (said, result.err)
