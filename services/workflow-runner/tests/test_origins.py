"""A run begins with the state of another one, which says how far it is while it goes on and when it has ended."""

import asyncio
import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from stigmer_protos import descriptors
from temporalio.client import WorkflowHandle
from workflow_runner import names
from workflow_runner.testing import Execution, Runs, Site, StartRunner

CHECKPOINT: Any = descriptors.message_type("ai.stigmer.runtime.v1.WorkflowCheckpoint")
POSITION: Any = descriptors.message_type("ai.stigmer.runtime.v1.WorkflowPosition")
LOOP = """
use: {secrets: [TOKEN]}
do:
- first: {call: http, with: {method: post, endpoint: SITE/a}, export: {as: '{seen: [.], word: $secrets.TOKEN}'}}
- l:
    for: {in: '[1, 2, 3]'}
    do:
    - b: {call: http, with: {method: post, endpoint: SITE/b, headers: {Word: '${ $context.word }'}}}
    - c: {set: {sum: '${ ($context.sum // 0) + $item }'}, export: {as: '$context + {sum}'}}
- last: {set: {sum: '${ $context.sum }', began: '${ $workflow.startedAt.iso8601 }', id: '${ $workflow.id }'}}
"""


async def told(runs: Runs, execution: Execution) -> tuple[Any, int]:
    """Return how far a run is, and in how many parts it says so."""
    handle = runs.client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}")
    text, count = "", 0
    while True:
        part = await handle.query(names.CHECKPOINT, len(text))
        text, count = text + part["text"], count + 1
        if len(text) == part["length"]:
            return json.loads(zlib.decompress(base64.b64decode(text))), count


def begun_with(runs: Runs, earlier: Execution, state: Any, at: str, **more: Any) -> Execution:
    """Make an execution that begins with a state, as the server does."""
    made = runs.add(earlier.definition, earlier.input, **more)
    made.from_execution, made.begin_at = earlier.id, at
    positions = [POSITION(**each) for each in state["positions"]]
    made.checkpoints.append(CHECKPOINT(content=state["content"].encode(), positions=positions))
    return made


async def ended(handle: WorkflowHandle[Any, Any]) -> Any:
    async with asyncio.timeout(60):
        return await handle.result()


@pytest.mark.requirement("durable.origin")
async def test_a_run_begins_with_a_task_of_one_that_completed(runs: Runs, site: Site) -> None:
    site.page("/a", {"from": "/a"})
    site.page("/b", {"from": "/b"})
    earlier = await runs.run(LOOP.replace("SITE", site.url), secrets={"TOKEN": "old-1234"})
    state, _ = await told(runs, earlier)
    assert [each["reference"] for each in state["positions"]] == [
        "/do/0/first",
        "/do/1/l",
        "/do/1/l/do/0/b",
        "/do/1/l/do/1/c",
        "/do/2/last",
    ]
    assert "old-1234" not in state["content"]
    later = begun_with(runs, earlier, state, "/do/1/l/do/0/b", secrets={"TOKEN": "new-1234"})
    output = await ended(await runs.start(later))
    # The third pass is done again with the sum of the first two, and with a secret of its own.
    assert (output["sum"], output["id"]) == (6, later.id)
    assert output["began"] > earlier.output["began"]
    assert [request.headers["word"] for request in site.seen("/b")] == ["old-1234"] * 3 + ["new-1234"]
    assert len(site.seen("/a")) == 1
    assert set(later.reported) == {"/do/1/l", "/do/1/l[2]/do/0/b", "/do/1/l[2]/do/1/c", "/do/2/last"}


async def test_a_run_begins_where_another_one_waits_and_hears_nothing_that_that_was_told(runs: Runs) -> None:
    text = """
do:
- f:
    fork:
      branches:
      - a: {set: {n: 1}}
      - b: {do: [{x: {set: {n: 2}}}, {hear: {listen: {to: {one: {with: {type: signal, id: go}}}}}}]}
"""
    earlier = runs.add(text)
    handle = await runs.start(earlier)
    await runs.peer.until(earlier, lambda seen: "/do/0/f/fork/branches/1/b/do/1/hear" in seen.reported)
    await handle.signal(names.SIGNAL, {"id": "s0", "name": "unheard", "payload": 1})
    state, _ = await told(runs, earlier)
    at = "/do/0/f/fork/branches/1/b/do/1/hear"
    assert state["positions"][-1]["reference"] == at
    assert state["positions"][-1]["within"] == ["/do/0/f", "/do/0/f/fork/branches/1/b"]
    assert not any(each["failed"] for each in state["positions"])
    later = begun_with(runs, earlier, state, at)
    going = await runs.start(later)
    await runs.peer.until(later, lambda seen: at in seen.reported)
    await handle.signal(names.SIGNAL, {"id": "s1", "name": "go", "payload": "one"})
    assert await ended(handle) == [{"n": 1}, ["one"]]
    await going.signal(names.SIGNAL, {"id": "s1", "name": "go", "payload": "other"})
    assert await ended(going) == [{"n": 1}, ["other"]]


async def test_a_large_state_is_told_in_parts(start_runner: StartRunner, tmp_path: Path) -> None:
    runs = await start_runner(blob_folder=tmp_path / "blobs", blob_threshold_bytes=4096)
    text = """
do:
- a: {set: {text: '${ [range(3000) | tostring] | join(" ") }'}, export: {as: .}}
- b: {set: '${ $context }'}
"""
    earlier = await runs.run(text)
    state, parts = await told(runs, earlier)
    assert parts > 1
    later = begun_with(runs, earlier, state, "/do/1/b")
    await ended(await runs.start(later))
    assert runs.whole(later) == runs.whole(earlier)


async def test_a_cancelled_run_says_where_it_was(runs: Runs) -> None:
    earlier = runs.add("do:\n- a: {set: {n: 1}}\n- o: {do: [{w: {wait: PT1H}}]}")
    handle = await runs.start(earlier)
    await runs.peer.until(earlier, lambda seen: "/do/1/o/do/0/w" in seen.reported)
    await handle.cancel()
    with pytest.raises(Exception, match="Workflow execution failed"):
        await ended(handle)
    state, _ = await told(runs, earlier)
    assert [each["reference"] for each in state["positions"] if each["failed"]] == ["/do/1/o/do/0/w"]
