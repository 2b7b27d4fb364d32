"""The runner as a process: how it starts, is killed, and stops."""

import asyncio
import signal
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowFailureError
from workflow_runner import names
from workflow_runner.testing import PeerServer, Request, Response, RunnerProcess, Runs, Site

pytestmark = pytest.mark.slow

Spawn = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def spawn(tmp_path: Path, temporal: str, peer: PeerServer) -> AsyncGenerator[Spawn]:
    """Start a runner and wait until it takes work."""
    started: list[RunnerProcess] = []

    async def start(queue: str) -> asyncio.subprocess.Process:
        made = RunnerProcess(tmp_path, temporal=temporal, server=peer.address, queue=queue)
        started.append(made)
        await made.start()
        return made.process

    yield start
    for runner in started:
        await runner.kill()


@pytest.mark.requirement("durable.killed")
async def test_a_killed_runner_is_followed_by_another_that_repeats_no_finished_call(
    spawn: Spawn, client: Client, peer: PeerServer, site: Site
) -> None:
    queue = f"queue-{uuid.uuid4().hex}"
    runs = Runs(client, peer, queue)
    for path in ("/a", "/b", "/c", "/d"):
        site.page(path, {"from": path})
    first = await spawn(queue)
    execution = runs.add(
        f"""
do:
- a: {{call: http, with: {{method: get, endpoint: {site.url}/a}}}}
- b: {{call: http, with: {{method: post, endpoint: {site.url}/b}}}}
- c: {{call: http, with: {{method: get, endpoint: {site.url}/c}}}}
- inner:
    do:
    - pause: {{wait: {{seconds: 3}}}}
    - d: {{call: http, with: {{method: get, endpoint: {site.url}/d}}}}
"""
    )
    handle = await runs.start(execution)
    await peer.until(execution, lambda seen: "/do/3/inner/do/0/pause" in seen.reported)
    first.kill()
    await first.wait()
    await spawn(queue)
    async with asyncio.timeout(30):
        assert await handle.result() == {"from": "/d"}
    assert execution.phase == "COMPLETED"
    assert {path: len(site.seen(path)) for path in ("/a", "/b", "/c", "/d")} == dict.fromkeys(
        ("/a", "/b", "/c", "/d"), 1
    )
    assert {task.status for task in execution.reported.values()} == {3}


async def test_a_call_that_must_not_be_repeated_ends_as_an_error_when_its_runner_is_killed(
    spawn: Spawn, client: Client, peer: PeerServer, site: Site
) -> None:
    queue = f"queue-{uuid.uuid4().hex}"
    runs = Runs(client, peer, queue)
    begun = asyncio.Event()

    async def never(_: Request) -> Response:
        begun.set()
        await asyncio.Event().wait()
        return Response({})

    site.page("/order", never)
    first = await spawn(queue)
    execution = runs.add(
        f"""
do:
- attempt:
    try: [{{order: {{call: http, with: {{method: post, endpoint: {site.url}/order}}}}}}]
    catch: {{do: [{{tell: {{set: {{status: '${{ $error.status }}', detail: '${{ $error.detail }}'}}}}}}]}}
"""
    )
    handle = await runs.start(execution)
    await asyncio.wait_for(begun.wait(), 30)
    first.kill()
    await first.wait()
    await spawn(queue)
    async with asyncio.timeout(60):
        await handle.result()
    assert execution.output["status"] == 408
    assert "whether it took effect is not known" in execution.output["detail"]
    assert len(site.seen("/order")) == 1


@pytest.mark.parametrize(
    ("before", "first_answer"),
    [("", 500), ("", 200), ("- before: {wait: {milliseconds: 50}}", 200)],
    ids=["failed", "completed", "completed-after-a-wait"],
)
async def test_a_run_whose_runner_is_killed_while_it_tells_the_end_does_nothing_more(
    spawn: Spawn, client: Client, peer: PeerServer, site: Site, before: str, first_answer: int
) -> None:
    queue = f"queue-{uuid.uuid4().hex}"
    runs = Runs(client, peer, queue)
    # Asked again, the site would answer otherwise, and send the run another way.
    answers = iter([Response({}, first_answer), Response({}, 700 - first_answer)])
    site.page("/state", lambda _: next(answers))
    site.page("/order", {})
    first = await spawn(queue)
    peer.when_over = lambda _: first.kill()
    order = f"{{call: http, with: {{method: post, endpoint: {site.url}/order}}}}"
    ask = f"{{call: http, with: {{method: get, endpoint: {site.url}/state}}}}"
    good = f"do:\n{before}\n- attempt: {{try: [{{ask: {ask}}}], catch: {{do: [{{order: {order}}}]}}}}"
    execution = runs.add(good if first_answer == 200 else f"do:\n- ask: {ask}\n- order: {order}")
    handle = await runs.start(execution)
    async with asyncio.timeout(30):
        await first.wait()
    peer.when_over = lambda _: None
    await spawn(queue)
    async with asyncio.timeout(60):
        (ended,) = await asyncio.gather(handle.result(), return_exceptions=True)
    assert execution.phase == ("COMPLETED" if first_answer == 200 else "FAILED")
    # Temporal comes to the same end, though the step that told it was lost.
    assert ended == execution.output if first_answer == 200 else isinstance(ended, WorkflowFailureError)
    assert (len(site.seen("/state")), len(site.seen("/order"))) == (1, 0)


async def test_a_held_run_and_what_it_was_sent_survive_the_kill_of_its_runner(
    spawn: Spawn, client: Client, peer: PeerServer, site: Site
) -> None:
    queue = f"queue-{uuid.uuid4().hex}"
    runs = Runs(client, peer, queue)
    site.page("/after", {"n": 1})
    first = await spawn(queue)
    execution = runs.add(
        f"""
do:
- pause: {{wait: PT0.1S}}
- after: {{call: http, with: {{method: post, endpoint: {site.url}/after}}}}
- wait: {{listen: {{to: {{one: {{with: {{type: signal, id: go}}}}}}}}}}
"""
    )
    handle = await runs.start(execution)
    await handle.signal(names.PAUSE, {"id": "p"})
    await handle.signal(names.SIGNAL, {"id": "s", "name": "go", "payload": {"n": 2}})
    await peer.until(execution, lambda seen: any(update.phase == 7 for update in seen.updates))
    first.kill()
    await first.wait()
    await handle.signal(names.PAUSE, {"id": "p"})
    await spawn(queue)
    await handle.signal(names.RESUME, {"id": "r"})
    async with asyncio.timeout(60):
        assert await handle.result() == [{"n": 2}]
    assert len(site.seen("/after")) == 1


async def test_starting_and_stopping_always_ends_with_zero(spawn: Spawn) -> None:
    for number in range(6):
        process = await spawn(f"queue-{uuid.uuid4().hex}")
        process.send_signal(signal.SIGTERM if number % 2 else signal.SIGINT)
        async with asyncio.timeout(20):
            assert await process.wait() == 0


async def test_a_stop_lets_a_call_in_flight_finish(spawn: Spawn, client: Client, peer: PeerServer, site: Site) -> None:
    queue = f"queue-{uuid.uuid4().hex}"
    runs = Runs(client, peer, queue)
    begun = asyncio.Event()

    async def slow(_: Request) -> Response:
        begun.set()
        await asyncio.sleep(1)
        return Response({"ok": True})

    site.page("/slow", slow)
    process = await spawn(queue)
    execution = runs.add(f"do:\n- c: {{call: http, with: {{method: post, endpoint: {site.url}/slow}}}}")
    handle = await runs.start(execution)
    await asyncio.wait_for(begun.wait(), 30)
    process.terminate()
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    await spawn(queue)
    async with asyncio.timeout(30):
        assert await handle.result() == {"ok": True}
    assert len(site.seen("/slow")) == 1


async def test_a_stop_before_temporal_is_there_ends_with_zero(tmp_path: Path) -> None:
    runner = RunnerProcess(tmp_path, temporal="127.0.0.1:1", server="127.0.0.1:1")
    process = await runner.spawn("--log-level", "warning")
    async with asyncio.timeout(30):
        while "no work from Temporal" not in runner.said():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)
    process.terminate()
    async with asyncio.timeout(20):
        assert await process.wait() == 0


async def test_wrong_settings_end_it_with_two_and_all_problems(tmp_path: Path) -> None:
    runner = RunnerProcess(tmp_path, temporal="127.0.0.1:1", server="127.0.0.1:1")
    process = await runner.spawn("--max-concurrency", "none", "--log-level", "loud")
    async with asyncio.timeout(20):
        assert await process.wait() == 2
    text = runner.said()
    assert "--max-concurrency (TEMPORAL_MAX_CONCURRENCY)" in text
    assert "--log-level (LOG_LEVEL)" in text
