"""Values too large for a history stay outside of it, and runs go on with them as with any other."""

import asyncio
import contextlib
import inspect
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stigmer_runner.claims import FolderStore, Owner, collect
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker, _workflow
from workflow_runner import names
from workflow_runner.settings import Settings
from workflow_runner.testing import Execution, PeerServer, Request, Response, RunnerProcess, Runs, Site, StartRunner
from workflow_runner.worker import serve

MIB = 2**20
LATER = 200_000.0
"""Seconds, more than values are kept for in any case."""


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
async def large(start_runner: StartRunner, blobs: Path) -> Runs:
    """A runner with a place for large values."""
    return await start_runner(blob_folder=blobs)


def handle_of(client: Client, execution: Execution) -> Any:
    return client.get_workflow_handle(f"{names.WORKFLOW}/{execution.id}")


async def largest_event(client: Client, execution: Execution) -> int:
    """Bytes of the largest event of the execution's last history."""
    return max([event.ByteSize() async for event in handle_of(client, execution).fetch_history_events()])


def items(count: int) -> list[dict[str, Any]]:
    return [{"id": index, "name": f"item {index}", "tags": ["some", "words"]} for index in range(count)]


@pytest.mark.requirement("large.values")
async def test_50_mib_pass_through_calls_and_tasks_without_entering_the_history(
    large: Runs, client: Client, site: Site
) -> None:
    text = "0123456789abcdef" * (50 * MIB // 16)
    site.page("/large", {"text": text})
    site.page("/length", lambda request: Response({"length": len(request.json["text"])}))
    execution = await large.run(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- keep: {{set: {{text: '${{ .text }}'}}, export: {{as: {{text: '${{ .text }}'}}}}}}
- loop:
    for: {{each: n, in: '[1, 2]'}}
    do:
    - again: {{set: {{text: '${{ $context.text }}'}}}}
- send: {{call: http, with: {{method: post, endpoint: {site.url}/length, body: {{text: '${{ .text }}'}}}}}}
- last: {{set: {{length: '${{ .length }}'}}, export: {{as: {{done: true}}}}}}
"""
    )
    assert execution.phase == "COMPLETED", execution.error
    assert execution.output == {"length": len(text)}
    assert await largest_event(client, execution) < 300_000
    shown = execution.reported["/do/1/keep"].output_value.struct_value.fields["$truncated"].struct_value.fields
    assert shown["bytes"].number_value > 50 * MIB
    assert shown["preview"].struct_value.fields["text"].string_value.endswith(f"({len(text)} characters)")


@pytest.mark.requirement("large.values")
async def test_50_mib_pass_through_an_agent_without_entering_the_history(
    large: Runs, client: Client, site: Site
) -> None:
    text = "0123456789abcdef" * (50 * MIB // 16)
    site.page("/large", {"text": text})
    execution = large.add(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- ask:
    call: agent
    with:
      agent: clerk
      message: Turn it round
      files: [{{path: all.json, content: '${{ . }}'}}]
      collect: [turned.json]
      output: execution
- last: {{set: {{turned: '${{ .files[0].content }}'}}}}
"""
    )
    await large.start(execution)
    agents = large.peer.agents
    made = await agents.begun()
    assert json.loads(agents.files[made.spec.session_id]["all.json"]) == {"text": text}
    await agents.end(made, "done", files={"turned.json": json.dumps({"text": text[::-1]}).encode()})
    await large.peer.until(execution, lambda seen: seen.phase == "COMPLETED")
    assert large.whole(execution) == {"turned": {"text": text[::-1]}}
    assert await largest_event(client, execution) < 300_000


async def test_large_structures_go_on_in_a_new_history_with_everything_around_them(
    start_runner: StartRunner, client: Client, blobs: Path, site: Site
) -> None:
    runs = await start_runner(blob_folder=blobs, max_history_events=20)
    made = items(30_000)
    site.page("/items", made)
    execution = await runs.run(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/items}}, export: {{as: {{items: '${{ . }}'}}}}}}
- loop:
    for: {{each: n, in: '[range(8)]'}}
    do:
    - pause: {{wait: {{milliseconds: 1}}}}
- last: {{set: {{last: '${{ $context.items[29999] }}'}}}}
"""
    )
    assert execution.output == {"last": made[-1]}
    assert await largest_event(client, execution) < 300_000
    description = await handle_of(client, execution).describe()
    assert description.raw_description.workflow_execution_info.first_run_id != description.run_id


async def test_a_value_above_the_bound_is_a_clear_error(start_runner: StartRunner, blobs: Path, site: Site) -> None:
    runs = await start_runner(blob_folder=blobs, max_value_bytes=2_000_000, max_response_bytes=4_000_000)
    site.page("/large", {"text": "x" * 2_500_000})
    error = await runs.error(f"do:\n- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}\n")
    assert "the answer takes 2500012 bytes, more than the 2000000 that can be kept" in error["detail"]


def many(count: int, task: str) -> str:
    """A document that does the same in so many branches."""
    branches = "\n".join(f"      - branch{index}: {task}" for index in range(count))
    return f"do:\n- all:\n    fork:\n      branches:\n{branches}\n"


@pytest.fixture(params=["blobs", "history"])
async def usual(request: pytest.FixtureRequest, start_runner: StartRunner, blobs: Path) -> Runs:
    """A runner with a place for large values, and one without."""
    return await start_runner(**({"blob_folder": blobs} if request.param == "blobs" else {}))


async def test_many_calls_with_large_arguments_fit_into_their_messages_and_are_under_way_together(
    usual: Runs, site: Site
) -> None:
    arrived = asyncio.Barrier(60)

    async def take(request: Request) -> Response:
        await arrived.wait()
        return Response({"length": len(request.json["text"])})

    site.page("/take", take)
    task = f"{{call: http, with: {{method: post, endpoint: {site.url}/take, body: {{text: '${{ .text }}'}}}}}}"
    assert await usual.output(many(60, task), {"text": "y" * 120_000}) == [{"length": 120_000}] * 60


async def test_answers_to_many_calls_at_once_fit_into_their_message(usual: Runs, site: Site) -> None:
    site.page("/large", {"text": "x" * 120_000})
    task = f"{{call: http, with: {{method: get, endpoint: {site.url}/large}}, output: {{as: '${{ .text | length }}'}}}}"
    assert await usual.output(many(60, task)) == [120_000] * 60


async def test_a_large_input_and_what_the_first_calls_get_and_are_given_fit_into_their_messages(
    runs: Runs, site: Site
) -> None:
    text = "x" * 1_450_000
    site.page("/large", {"text": text})
    site.page("/length", lambda request: Response({"length": len(request.json["text"])}))
    output = await runs.output(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- send: {{call: http, with: {{method: post, endpoint: {site.url}/length, body: '${{ . }}'}}}}
""",
        {"text": text},
    )
    assert output == {"length": len(text)}


async def test_what_many_activities_of_other_workers_are_given_at_once_fits_into_their_messages(
    usual: Runs, client: Client
) -> None:
    arrived = asyncio.Barrier(40)

    @activity.defn(name="Measure")
    async def measure(text: str) -> int:
        await arrived.wait()
        return len(text)

    queue = f"foreign-{uuid.uuid4().hex}"
    task = f"{{call: activity, with: {{name: Measure, taskQueue: {queue}, arguments: ['${{ .text }}']}}}}"
    async with Worker(client, task_queue=queue, activities=[measure]):
        assert await usual.output(many(40, task), {"text": "y" * 120_000}) == [120_000] * 40


async def test_a_missing_value_ends_the_run_with_an_error_that_names_it(
    temporal: str, client: Client, peer: PeerServer, blobs: Path, site: Site
) -> None:
    site.page("/large", {"text": "x" * 300_000})
    queue = f"queue-{uuid.uuid4().hex}"
    given = {"temporal_address": temporal, "server_address": peer.address, "task_queue": queue, "sticky_seconds": 1}
    settings = Settings.model_validate({**given, "blob_folder": blobs, "blob_patience_seconds": 0})
    runs = Runs(client, peer, queue)
    execution = runs.add(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- last: {{listen: {{to: {{one: {{with: {{type: signal, id: go}}}}}}}}}}
"""
    )
    async with serving(settings):
        handle = await runs.start(execution)
        await peer.until(execution, lambda found: "/do/1/last" in found.reported)
    shutil.rmtree(blobs)
    async with serving(settings):
        await handle.signal(names.SIGNAL, {"id": "1", "name": "go"})
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 50)
    assert execution.phase == "FAILED"
    assert f"is gone: there is no {blobs}/runs/" in execution.error["detail"]


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings, stop))
    yield
    stop.set()
    await running


async def test_values_go_when_temporal_does_not_know_the_run_that_needs_them(
    large: Runs, client: Client, blobs: Path, site: Site
) -> None:
    site.page("/large", {"text": "x" * 300_000})
    known = await large.run(f"do:\n- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}\n")
    workflow = f"{names.WORKFLOW}/{known.id}"
    store = FolderStore(blobs)
    (kept,) = (stored.owner for stored in store.stored())
    unknown = Owner(namespace="default", workflow_id=f"{workflow}-forgotten", run_id=str(uuid.uuid4()))
    # As runs are that went on in new ones: one whose state the known run began with, and the one before it.
    before, earlier = (replace(kept, run_id=str(uuid.uuid4())) for _ in range(2))
    for age, owner in ((3, earlier), (2, before), (1, unknown)):
        store.put(owner, "abcd", b"value")
        began = time.time() - 3600 * age
        os.utime(blobs / "runs" / owner.name / "owner", (began, began))
    assert await collect(client, store, grace_seconds=LATER) == 0
    assert await collect(client, store, grace_seconds=-LATER) == 2
    assert {stored.owner for stored in store.stored()} == {kept, before}
    assert store.get(before, "abcd") == b"value"


SIZE = int(os.environ.get("STIGMER_LARGE_MIB", "12")) * MIB
"""Of the values below. Fifty are as good, and take longer."""


async def test_a_large_output_goes_to_the_server_whole_and_what_is_shown_of_it_is_short(
    large: Runs, client: Client, peer: PeerServer, site: Site
) -> None:
    text = "0123456789abcdef" * (SIZE // 16)
    site.page("/large", {"text": text})
    execution = await large.run(
        f"do:\n- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}\n", secrets={"TOKEN": "t"}
    )
    assert execution.phase == "COMPLETED", execution.error
    assert large.whole(execution) == {"text": text}
    assert execution.output["$truncated"]["bytes"] == execution.status.large_output.bytes == len(text) + 11
    assert await largest_event(client, execution) < 300_000
    assert peer.values.puts == 1


async def test_secrets_are_taken_out_of_a_large_output(large: Runs, site: Site) -> None:
    site.page("/large", {"text": "x" * 5 * MIB})
    execution = await large.run(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- last: {{set: {{text: '${{ .text }}', token: '${{ $secrets.TOKEN }}'}}}}
""",
        secrets={"TOKEN": "tok-secret"},
    )
    assert large.whole(execution) == {"text": "x" * 5 * MIB, "token": "***REDACTED***"}


async def test_a_large_value_goes_into_another_workflow_and_comes_out_of_it(
    large: Runs, client: Client, peer: PeerServer, site: Site
) -> None:
    text = "0123456789abcdef" * (SIZE // 16)
    site.page("/large", {"text": text})
    peer.children.workflows["echo"] = (
        "document: {dsl: 1.0.3, namespace: test, name: echo, version: 1.0.0}\n"
        "do:\n- back: {set: {text: '${ .text }', came: true}}\n"
    )
    execution = await large.run(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- child: {{run: {{workflow: {{namespace: test, name: echo, version: 1.0.0, input: '${{ . }}'}}}}}}
"""
    )
    assert execution.phase == "COMPLETED", execution.error
    assert large.whole(execution) == {"text": text, "came": True}
    (child,) = peer.children.created
    assert child.large_input.bytes == len(text) + 11
    for each in (execution, child):
        assert await largest_event(client, each) < 300_000


async def test_50_mib_pass_through_a_fork_whose_branches_each_have_them_in_bounded_memory(
    temporal: str, client: Client, peer: PeerServer, site: Site, tmp_path: Path
) -> None:
    queue = f"queue-{uuid.uuid4().hex}"
    runs = Runs(client, peer, queue)
    runner = RunnerProcess(
        tmp_path, temporal=temporal, server=peer.address, queue=queue, STIGMER_BLOB_FOLDER=str(tmp_path / "blobs")
    )
    text = "0123456789abcdef" * (50 * MIB // 16)
    site.page("/large", {"text": text})
    await runner.start()
    try:
        execution = await runs.run(
            f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- both:
    fork:
      branches:
      - one: {{set: {{text: '${{ .text }}', by: one}}}}
      - two:
          do:
          - pause: {{wait: {{milliseconds: 1}}}}
          - keep: {{set: {{text: '${{ .text }}'}}}}
- last: {{set: {{by: '${{ .[0].by }}', text: '${{ .[1].text }}'}}}}
"""
        )
        peak = peak_bytes(runner.process.pid)
    finally:
        await runner.kill()
    assert execution.phase == "COMPLETED", execution.error
    assert runs.whole(execution) == {"by": "one", "text": text}
    assert await largest_event(client, execution) < 300_000
    assert peak is None or peak < 768 * MIB


def peak_bytes(process: int) -> int | None:
    """Return what a process held at most, where the system tells it."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return None if found is None else int(found[1]) * 1024


async def test_large_values_of_branches_are_joined(large: Runs, client: Client, site: Site) -> None:
    text = "0123456789abcdef" * (12 * MIB // 16)
    site.page("/large", {"text": text})
    execution = await large.run(
        f"""
do:
- both:
    fork:
      branches:
      - one: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
      - two: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- last: {{set: {{same: '${{ .[0] == .[1] }}', text: '${{ .[1].text }}'}}}}
"""
    )
    assert execution.phase == "COMPLETED", execution.error
    assert large.whole(execution) == {"same": True, "text": text}
    assert await largest_event(client, execution) < 300_000


async def test_an_agent_is_given_no_more_than_it_can_take_and_its_answer_must_fit_into_a_message(
    large: Runs, client: Client, site: Site
) -> None:
    site.page("/large", {"text": "0123456789abcdef" * (50 * MIB // 16)})
    execution = large.add(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/large}}}}
- too-much:
    try: [{{ask: {{call: agent, with: {{agent: clerk, message: '${{ .text }}'}}}}}}]
    catch: {{as: refused, do: [{{told: {{set: {{detail: '${{ $refused.detail }}'}}}}}}]}}
- first: {{call: agent, with: {{agent: clerk, message: '${{ .detail }}'}}}}
- second:
    try: [{{ask: {{call: agent, with: {{agent: clerk, message: Again}}}}}}]
    catch: {{as: lost, do: [{{told: {{set: {{detail: '${{ $lost.detail }}'}}}}}}]}}
"""
    )
    handle = await large.start(execution)
    agents = large.peer.agents
    first = await agents.begun()
    assert agents.attempts == 1
    assert "more than the 4194304 that an agent can be told: give it the rest in `files`" in first.spec.message
    await agents.end(first, "x" * 8 * MIB)
    await agents.end(await agents.begun(2), "x" * 50 * MIB)
    output = await asyncio.wait_for(handle.result(), 50)
    assert "how the execution aex-2 ended cannot be read, it is too large" in output["detail"]
    assert execution.reported["/do/2/first"].status == 3
    assert await largest_event(client, execution) < 300_000


async def test_without_a_place_for_them_large_inputs_of_others_are_clear_errors(runs: Runs) -> None:
    large = "'${ \"x\" * 2000000 }'"
    child = f"{{run: {{workflow: {{namespace: test, name: echo, version: 1.0.0, input: {{text: {large}}}}}}}}}"
    error = await runs.error(f"do:\n- child: {child}")
    assert "the input takes 2000012 bytes, more than the 1900000 that can be kept" in error["detail"]
    error = await runs.error(f"do:\n- ask: {{call: agent, with: {{agent: clerk, message: {large}}}}}")
    assert "more than the 1900000 that an agent can be told" in error["detail"]


async def test_many_agents_at_once_with_messages_just_below_the_threshold_fit_into_their_messages(large: Runs) -> None:
    branches = "\n".join(
        f"      - branch{index}: {{call: agent, with: {{agent: clerk, message: '${{ .text }}'}}}}"
        for index in range(40)
    )
    handle = await large.start(
        large.add(f"do:\n- all:\n    fork:\n      branches:\n{branches}\n", {"text": "y" * 120_000})
    )
    for number in range(1, 41):
        await large.peer.agents.end(await large.peer.agents.begun(number), "ok")
    assert await asyncio.wait_for(handle.result(), 50) == ["ok"] * 40


async def test_a_run_with_large_data_is_recovered_from_any_task(large: Runs, peer: PeerServer, site: Site) -> None:
    answers = iter([500, 500])
    made = items(100_000)
    site.page("/items", made)
    site.page("/flaky", lambda _: Response({"ok": True}, next(answers, 200)))
    execution = await large.run(
        f"""
do:
- fetch: {{call: http, with: {{method: get, endpoint: {site.url}/items}}, export: {{as: {{items: '${{ . }}'}}}}}}
- flaky: {{call: http, with: {{method: post, endpoint: {site.url}/flaky}}}}
- last: {{set: {{last: '${{ $context.items[99999] }}'}}}}
"""
    )
    assert execution.phase == "FAILED"
    assert not execution.checkpoints[-1].content
    assert execution.checkpoints[-1].large_content.bytes > 6_000_000
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for((await large.recover(execution)).result(), 50)
    assert await asyncio.wait_for((await large.recover(execution, "/do/1/flaky")).result(), 50) == {"last": made[-1]}
    assert len(site.seen("/items")) == 1


def test_the_sdk_still_asks_how_long_a_step_may_take_where_the_worker_says_it() -> None:
    """`workflow_runner.worker` sets an attribute that is the SDK's own; should it go, large values end runs again."""
    source = " ".join(inspect.getsource(_workflow).split())
    assert "asyncio.wait_for( activate_task, self._deadlock_timeout_seconds )" in source
