"""Following an execution: nothing is missed, and every stream ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import InvalidArgumentError, NotFoundError

from stigmer_server.resources import Resources
from stigmer_server.testing import Api, serve

Make = Callable[..., Awaitable[Any]]
KIND = "agent_execution"
COMPLETED = 3


async def report(api: Api, execution: Any, **status: Any) -> Any:
    return await api(KIND, "updateStatus", {"executionId": execution.metadata.id, "status": status})


def follow(api: Api, execution: Any) -> Any:
    return aiter(api.stream(KIND, "subscribe", {"value": execution.metadata.id}))


async def test_a_follower_sees_the_snapshot_and_then_every_change_until_the_end(api: Api, make: Make) -> None:
    made = await make(api, KIND)
    states = follow(api, made)
    assert await anext(states) == made
    started = await report(api, made, phase="EXECUTION_IN_PROGRESS")
    assert await anext(states) == started
    ended = await report(api, made, phase="EXECUTION_COMPLETED")
    assert await anext(states) == ended
    with pytest.raises(StopAsyncIteration):
        await anext(states)


async def test_a_late_follower_of_a_finished_execution_gets_it_and_the_end(api: Api, make: Make) -> None:
    made = await make(api, KIND)
    ended = await report(api, made, phase="EXECUTION_FAILED", error="no")
    async with asyncio.timeout(10):
        assert [state async for state in follow(api, made)] == [ended]


async def test_a_slow_follower_misses_states_but_never_the_last(api: Api, make: Make) -> None:
    made = await make(api, KIND)
    states = follow(api, made)
    await anext(states)
    for number in range(300):
        await report(api, made, phase="EXECUTION_IN_PROGRESS", error=f"{number}")
    ended = await report(api, made, phase="EXECUTION_COMPLETED")
    async with asyncio.timeout(10):
        rest = [state async for state in states]
    assert rest[-1] == ended
    assert len(rest) <= 301


async def test_reports_while_subscribing_are_never_lost(local: Api, make: Make) -> None:
    for _ in range(20):
        made = await make(local, KIND)
        states = follow(local, made)
        first, ended = await asyncio.gather(anext(states), report(local, made, phase="EXECUTION_COMPLETED"))
        last = first if first.status.phase == COMPLETED else await asyncio.wait_for(anext(states), 10)
        assert last == ended


async def test_a_stream_ends_when_its_execution_is_deleted(api: Api, make: Make) -> None:
    made = await make(api, KIND)
    states = follow(api, made)
    await anext(states)
    await api(KIND, "delete", {"value": made.metadata.id})
    async with asyncio.timeout(10):
        assert [state async for state in states] == []


async def test_streams_end_when_the_server_stops(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path, transport="tcp", shutdown_grace_seconds=30.0) as api:
        made = await make(api, KIND)
        states = [follow(api, made) for _ in range(3)]
        for one in states:
            await anext(one)
        async with asyncio.timeout(10):
            await api.app.__aexit__(None, None, None)
            for one in states:
                assert [state async for state in one] == []


async def test_many_followers_get_the_same_states(local: Api, make: Make) -> None:
    made = await make(local, KIND)
    streams = [follow(local, made) for _ in range(50)]
    await asyncio.gather(*(anext(states) for states in streams))
    ended = await report(local, made, phase="EXECUTION_COMPLETED")
    async with asyncio.timeout(10):
        rest = await asyncio.gather(*(_drained(states) for states in streams))
    assert all(states[-1] == ended for states in rest)


async def _drained(states: Any) -> list[Any]:
    return [state async for state in states]


async def test_followers_see_no_secrets(local: Api, make: Make) -> None:
    made = await make(local, KIND, spec={"runtimeEnv": {"TOKEN": {"value": "s3cret", "isSecret": True}}})
    states = follow(local, made)
    assert (await anext(states)).spec.runtime_env["TOKEN"].value == "***REDACTED***"
    await report(local, made, phase="EXECUTION_COMPLETED")
    assert (await anext(states)).spec.runtime_env["TOKEN"].value == "***REDACTED***"


async def test_following_nothing(local: Api) -> None:
    with pytest.raises(NotFoundError):
        await anext(aiter(local.stream(KIND, "subscribe", {"value": "aex-none"})))
    for kind in (KIND, "workflow_execution"):
        with pytest.raises(InvalidArgumentError):
            await anext(aiter(local.stream(kind, "subscribe", {})))


async def test_nothing_is_left_of_streams_that_were_given_up(local: Api, make: Make) -> None:
    made = await make(local, KIND)
    before = len(asyncio.all_tasks())
    for _ in range(100):
        stream = local.stream(KIND, "subscribe", {"value": made.metadata.id})
        await anext(aiter(stream))
        stream.cancel()
    async with asyncio.timeout(10):
        while len(tasks := asyncio.all_tasks()) > before:
            await asyncio.wait(tasks - {asyncio.current_task()}, return_when=asyncio.FIRST_COMPLETED)


async def test_a_state_is_encoded_once_for_a_thousand_followers(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    shown = Resources.shown

    def counted(self: Resources, kind: Any, record: Any) -> bytes:
        encoded.append(record.version)
        return shown(self, kind, record)

    monkeypatch.setattr(Resources, "shown", counted)
    async with serve(tmp_path, log_level="error") as api:
        made = await make(api, KIND)
        followers = [follow(api, made) for _ in range(1000)]
        await asyncio.gather(*(anext(states) for states in followers))
        for phase in ("EXECUTION_IN_PROGRESS", "EXECUTION_COMPLETED"):
            now = await report(api, made, phase=phase)
            assert all(state == now for state in await asyncio.gather(*(anext(states) for states in followers)))
    assert encoded == [1, 2, 3]


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


READERS = """
import asyncio, os, sys
from stigmer_grpc import connect
from stigmer_protos import descriptors

async def come_and_go(address, id):
    async with connect(address, pool=descriptors.pool()) as channel:
        service = channel.service("ai.stigmer.agentic.agentexecution.v1.AgentExecutionQueryController")
        stream = service.stream("subscribe", {"value": id})
        await anext(aiter(stream))
        stream.cancel()

async def main(address, id):
    for _ in range(50):
        await asyncio.gather(*(come_and_go(address, id) for _ in range(20)))
    # The last ones vanish in the middle of it, without a word.
    channels = [connect(address, pool=descriptors.pool()) for _ in range(20)]
    for channel in channels:
        service = channel.service("ai.stigmer.agentic.agentexecution.v1.AgentExecutionQueryController")
        await anext(aiter(service.stream("subscribe", {"value": id})))
    os._exit(0)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
async def test_a_thousand_readers_that_come_and_go_leave_no_task_and_no_open_file(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path, transport="tcp", log_level="error") as api:
        made = await make(api, KIND)
        await api(KIND, "get", {"value": made.metadata.id})
        (address,) = api.app.addresses
        tasks, files = len(asyncio.all_tasks()), _open_files()
        readers = await asyncio.create_subprocess_exec(sys.executable, "-c", READERS, address, made.metadata.id)
        async with asyncio.timeout(90):
            assert await readers.wait() == 0
        for _ in range(200):
            if len(asyncio.all_tasks()) <= tasks and _open_files() <= files + 2:
                break
            await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) <= tasks
        assert _open_files() <= files + 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in /proc")
async def test_a_reader_that_stops_reading_costs_bounded_memory(tmp_path: Path, make: Make) -> None:
    async with serve(tmp_path, transport="tcp", log_level="error") as api:
        made = await make(api, KIND)
        stalled = [follow(api, made) for _ in range(5)]
        for states in stalled:
            await anext(states)
        text = "x" * 100_000

        async def reports(count: int) -> None:
            for number in range(count):
                await report(api, made, messages=[{"type": "MESSAGE_AI", "content": f"{number} {text}"}])

        await reports(100)
        before = _resident_bytes()
        await reports(500)
        # What was written meanwhile would be 50 MB for each of them.
        assert _resident_bytes() - before < 40_000_000
        ended = await report(api, made, phase="EXECUTION_COMPLETED")
        async with asyncio.timeout(30):
            for states in stalled:
                assert [state async for state in states][-1] == ended


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
