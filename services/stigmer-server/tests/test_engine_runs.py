"""Executions from end to end: a real server, a real Temporal, and the workflow runner as a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import FailedPreconditionError

from stigmer_server.messages import value_to_plain
from stigmer_server.testing import Api, TemporalServer, free_port, manifest, serve

Make = Callable[..., Awaitable[Any]]
KIND = "workflow_execution"
PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = range(1, 6)
PAUSED = 7
HEADER = "document: {dsl: 1.0.0, namespace: tests, name: NAME, version: 0.1.0}\n"

pytestmark = pytest.mark.slow


class Site:
    """A web server that counts what it is asked, and fails as often as it is told."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode()
        while (await reader.readline()).strip():
            pass
        path = line.split(" ")[1]
        self.asked[path] += 1
        fails = self.failures[path] > 0
        self.failures[path] -= fails
        status = "500 No" if fails else "200 OK"
        body = b'{"ok": true}'
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def site() -> AsyncGenerator[Site]:
    made = Site()
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


@asynccontextmanager
async def runner(folder: Path, temporal: str, server: str, queue: str) -> AsyncGenerator[None]:
    """Run a workflow runner for the length of a block."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "TEMPORAL_HOST_PORT": temporal,
        "STIGMER_BACKEND_ENDPOINT": server,
        "TEMPORAL_WORKFLOW_EXECUTION_RUNNER_TASK_QUEUE": queue,
    }
    with (folder / "runner.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workflow_runner", env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def stack(folder: Path, temporal: str, queue: str) -> AsyncGenerator[Api]:
    """A server in this process that a runner reaches over TCP."""
    async with serve(
        folder,
        transport="tcp",
        engine=True,
        temporal_address=temporal,
        workflow_execution_queue=queue,
        watch_seconds=1,
    ) as api:
        (address,) = api.app.addresses
        async with runner(folder, temporal, address, queue):
            yield api


async def start(api: Api, name: str, definition: str) -> Any:
    spec = {"definition": HEADER.replace("NAME", name) + definition}
    return await run(api, await api("workflow", "create", manifest("workflow", name, spec)), name)


async def run(api: Api, workflow: Any, name: str, data: Any = None) -> Any:
    return await api(KIND, "create", manifest(KIND, name, {"workflowId": workflow.metadata.id, "input": data}))


async def until(api: Api, execution: Any, holds: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(60):
        async for state in api.stream(KIND, "subscribe", {"executionId": execution.metadata.id}):
            if holds(state.status):
                return state.status
    raise AssertionError("the stream ended")


def over(status: Any) -> bool:
    return status.phase in (COMPLETED, FAILED, CANCELLED, 6)


def tasks(status: Any) -> dict[str, int]:
    return {task.task_id: task.status for task in status.tasks}


@pytest.mark.requirement("control.pause", "faults.recovered")
async def test_a_run_is_paused_signalled_resumed_and_recovered(tmp_path: Path, temporal: TemporalServer) -> None:
    async with site() as web, stack(tmp_path, temporal.address, "controls") as api:
        web.failures["/flaky"] = 1
        made = await start(
            api,
            "controls",
            f"""
do:
- first: {{call: http, with: {{method: post, endpoint: {web.url}/first}}}}
- approval: {{listen: {{to: {{one: {{with: {{type: signal, id: go}}}}}}}}}}
- flaky: {{call: http, with: {{method: post, endpoint: {web.url}/flaky}}}}
- last: {{call: http, with: {{method: post, endpoint: {web.url}/last}}}}
""",
        )
        id = made.metadata.id
        # Before a runner has taken it up: both arrive, in order.
        await api(KIND, "pause", {"id": id, "reason": "not yet"})
        request = {"executionId": id, "signalName": "go", "payload": {"by": ["Ada"]}, "idempotencyKey": "once"}
        await asyncio.gather(*(api(KIND, "sendSignal", request) for _ in range(20)))
        await asyncio.sleep(1)
        assert web.asked["/first"] == 0
        await api(KIND, "resume", {"id": id})
        failed = await until(api, made, over)
        assert failed.phase == FAILED
        assert tasks(failed) == {"/do/0/first": 3, "/do/1/approval": 3, "/do/2/flaky": 4}
        assert value_to_plain(failed.tasks[1].output_value) == [{"by": ["Ada"]}]
        recovered = await api(KIND, "recover", {"id": id, "reason": "fixed"})
        assert (recovered.status.phase, recovered.status.error, recovered.status.recoveries) == (PENDING, "", 1)
        done = await until(api, made, over)
        assert (done.phase, done.error, done.started_at) == (COMPLETED, "", failed.started_at)
        assert set(tasks(done).values()) == {3}
        assert web.asked == {"/first": 1, "/flaky": 2, "/last": 1}
        with pytest.raises(FailedPreconditionError):
            await api(KIND, "recover", {"id": id})


async def test_a_run_is_recovered_from_a_task_that_is_named(tmp_path: Path, temporal: TemporalServer) -> None:
    async with site() as web, stack(tmp_path, temporal.address, "named") as api:
        web.failures["/c"] = 2
        steps = "".join(
            f"    - {name}: {{call: http, with: {{method: post, endpoint: {web.url}/{name}}}}}\n" for name in "abc"
        )
        made = await start(api, "named", f"do:\n- all:\n    do:\n{steps}")
        id = made.metadata.id
        await until(api, made, over)
        with pytest.raises(FailedPreconditionError) as caught:
            await api(KIND, "recover", {"id": id, "fromTask": "nowhere"})
        assert "/do/0/all/do/1/b" in str(caught.value)
        again = await api(KIND, "recover", {"id": id, "fromTask": "b"})
        assert set(tasks(again.status)) == {"/do/0/all", "/do/0/all/do/0/a"}
        assert (await until(api, made, over)).phase == FAILED
        await api(KIND, "recover", {"id": id, "fromTask": "/do/0/all/do/2/c"})
        assert (await until(api, made, over)).phase == COMPLETED
        assert web.asked == {"/a": 1, "/b": 2, "/c": 3}


async def test_everything_again_from_the_beginning(tmp_path: Path, temporal: TemporalServer) -> None:
    async with site() as web, stack(tmp_path, temporal.address, "again") as api:
        web.failures["/b"] = 1
        made = await start(
            api,
            "again",
            f"do:\n- a: {{call: http, with: {{method: post, endpoint: {web.url}/a}}}}\n"
            f"- b: {{call: http, with: {{method: post, endpoint: {web.url}/b}}}}",
        )
        await until(api, made, over)
        again = await api(KIND, "recover", {"id": made.metadata.id, "fromTask": "/"})
        assert not again.status.tasks
        assert (await until(api, made, over)).phase == COMPLETED
        assert web.asked == {"/a": 2, "/b": 2}


@pytest.mark.requirement("events.emitted", "events.heard")
async def test_one_run_hears_what_another_emits_and_a_flood_beside_it(tmp_path: Path, temporal: TemporalServer) -> None:
    async with stack(tmp_path, temporal.address, "events") as api:
        listener = """
do:
- reply: {listen: {to: {one: {with: {type: reply, data: '${ .to == $workflow.id }'}}}}}
- flood:
    listen: {to: {any: [{with: {type: drop}}], until: {one: {with: {type: enough}}}}}
    foreach: {do: [{keep: {set: '${ $item }'}}]}
"""
        heard = await start(api, "listener", listener)
        await until(api, heard, lambda status: bool(status.tasks))
        publisher = api.channel.service("ai.stigmer.events.v1.EventController")
        drops = [{"id": str(n), "source": "/sky", "type": "drop", "jsonData": n} for n in range(300)]
        await publisher.unary("publish", {"org": "local", "events": drops})
        emitter = "do:\n- tell: {emit: {event: {with: {type: reply, data: {to: '${ .to }'}}}}}"
        spec = {"definition": HEADER.replace("NAME", "emitter") + emitter}
        workflow = await api("workflow", "create", manifest("workflow", "emitter", spec))
        emitted = await run(api, workflow, "emitter", {"to": heard.metadata.id})
        assert (await until(api, emitted, over)).phase == COMPLETED
        await until(api, heard, lambda status: any(task.task_name == "flood" for task in status.tasks))
        more = [{**drop, "id": f"more {n}", "jsonData": 300 + n} for n, drop in enumerate(drops)]
        await publisher.unary("publish", {"org": "local", "events": more})
        await publisher.unary("publish", {"org": "local", "events": [{"source": "/sky", "type": "enough"}]})
        done = await until(api, heard, over)
        assert (done.phase, done.error) == (COMPLETED, "")
        assert value_to_plain(done.output_value) == list(range(600))


@pytest.mark.requirement("schedule.every", "schedule.after")
async def test_time_and_the_end_of_a_run_start_the_next(tmp_path: Path, temporal: TemporalServer) -> None:
    async with stack(tmp_path, temporal.address, "schedules") as api:
        again, often = [
            await api(
                "workflow",
                "create",
                manifest(
                    "workflow",
                    name,
                    {"definition": HEADER.replace("NAME", name) + schedule + "do:\n- a: {set: {n: 1}}"},
                ),
            )
            for name, schedule in (("again", "schedule: {after: PT0.2S}\n"), ("often", "schedule: {every: PT1S}\n"))
        ]
        service = api.channel.service("ai.stigmer.schedules.v1.ScheduleController")
        await service.unary("trigger", {"workflow_id": again.metadata.id})
        async with asyncio.timeout(60):
            while True:
                listed = (await service.unary("list", {"org": "local"})).entries
                if all(entry.started >= 3 for entry in listed):
                    break
                await asyncio.sleep(0.1)
        found = await api(KIND, "listByWorkflow", {"workflowId": often.metadata.id})
        moments = [one.spec.trigger_metadata["scheduled_at"] for one in found.entries]
        assert len(moments) == len({moment for moment in moments if moment.startswith("20")})
        for entry in listed:
            await service.unary("pause", {"workflow_id": entry.workflow_id})


async def test_a_hundred_executions_end_once_while_temporal_dies_ten_times(tmp_path: Path) -> None:
    """Temporal is not there at first, and is killed ten times while the executions come and go."""
    temporal = TemporalServer(tmp_path, port=free_port())
    queue = "storm"
    try:
        async with site() as web, stack(tmp_path, temporal.address, queue) as api:
            definition = f"""
do:
- post: {{call: http, with: {{method: post, endpoint: '${{ "{web.url}/" + .name }}'}}}}
- wait: {{wait: PT0.5S}}
- done: {{set: {{done: true}}}}
"""
            spec = {"definition": HEADER.replace("NAME", queue) + definition}
            workflow = await api("workflow", "create", manifest("workflow", queue, spec))
            made: list[Any] = []
            for turn in range(10):
                names = [f"run-{turn}-{number}" for number in range(10)]
                made += [await run(api, workflow, name, {"name": name}) for name in names]
                await asyncio.to_thread(temporal.start)
                await asyncio.sleep(1.5)
                await asyncio.to_thread(kill, temporal)
            await asyncio.to_thread(temporal.start)
            ended = await asyncio.gather(*(until(api, execution, over) for execution in made))
        assert len(ended) == 100
        assert max(web.asked.values()) == 1
        # A call that must not be repeated may be in flight while Temporal dies: then nobody repeats it.
        lost = [status for status in ended if status.phase != COMPLETED]
        assert all("whether it took effect is not known" in status.error for status in lost)
        assert len(lost) < 20
        assert all(set(tasks(status).values()) == {3} for status in ended if status.phase == COMPLETED)
    finally:
        await asyncio.to_thread(temporal.stop)


def kill(temporal: TemporalServer) -> None:
    """End Temporal without giving it time."""
    process = temporal._process
    assert process is not None
    process.kill()
    process.wait()
