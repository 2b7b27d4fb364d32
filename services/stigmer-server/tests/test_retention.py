"""Which finished executions are kept, and what goes with those that are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_grpc import NotFoundError

from stigmer_server.command_line import parse
from stigmer_server.errors import SettingsError
from stigmer_server.retention import Kept, prune
from stigmer_server.testing import Api, manifest, serve

Make = Callable[..., Awaitable[Any]]
KIND = "agent_execution"
COMPLETED = 3
DAY = 86_400.0


async def agent_of(api: Api, name: str = "Runner") -> str:
    spec = {"instructions": "Answer every question in one sentence."}
    return str((await api("agent", "create", manifest("agent", name, spec))).metadata.id)


async def run(api: Api, agent: str, *, finished: bool = True, session: str = "") -> Any:
    spec = {"sessionId": session, "message": "go"} if session else {"agentId": agent, "message": "go"}
    made = await api(KIND, "create", manifest(KIND, "run", spec))
    if finished:
        await api(KIND, "updateStatus", {"executionId": made.metadata.id, "status": {"phase": COMPLETED}})
    return made


async def is_there(api: Api, kind: str, id: str) -> bool:
    try:
        await api(kind, "get", {"value": id})
    except NotFoundError:
        return False
    return True


async def test_without_a_limit_everything_stays(local: Api) -> None:
    made = await run(local, await agent_of(local))
    assert await prune(local.app.resources, Kept(), now=time.time() + 1000 * DAY) == {}
    assert await is_there(local, KIND, made.metadata.id)


async def test_what_ended_long_ago_goes_with_its_own_session_and_what_runs_stays(local: Api) -> None:
    agent = await agent_of(local)
    old = [await run(local, agent) for _ in range(25)]
    running = await run(local, agent, finished=False)
    retention = Kept(days=7)
    assert await prune(local.app.resources, retention, now=time.time() + 6 * DAY) == {}
    removed = await prune(local.app.resources, retention, now=time.time() + 8 * DAY)
    assert removed == {KIND: 25, "session": 25}
    for each in old:
        assert not await is_there(local, KIND, each.metadata.id)
        assert not await is_there(local, "session", each.spec.session_id)
    assert await is_there(local, KIND, running.metadata.id)
    assert await is_there(local, "session", running.spec.session_id)
    assert await prune(local.app.resources, retention, now=time.time() + 8 * DAY) == {}


async def test_the_newest_of_each_kind_stay(local: Api, make: Make) -> None:
    agent = await agent_of(local)
    runs = [await run(local, agent) for _ in range(6)]
    flow = await make(local, "workflow_execution")
    status = {"executionId": flow.metadata.id, "status": {"phase": COMPLETED}}
    await local("workflow_execution", "updateStatus", status)
    assert await prune(local.app.resources, Kept(count=2)) == {KIND: 4, "session": 4}
    there = [await is_there(local, KIND, each.metadata.id) for each in runs]
    assert there == [False] * 4 + [True] * 2
    assert await is_there(local, "workflow_execution", flow.metadata.id)


async def test_a_session_of_somebodys_own_or_in_use_stays(local: Api, make: Make) -> None:
    own = await make(local, "session")
    kept = await run(local, "", session=own.metadata.id)
    shared = await run(local, await agent_of(local, "Other"))
    second = await run(local, "", session=shared.spec.session_id, finished=False)
    assert await prune(local.app.resources, Kept(days=1), now=time.time() + 2 * DAY) == {KIND: 2}
    assert not await is_there(local, KIND, kept.metadata.id)
    assert await is_there(local, "session", own.metadata.id)
    assert await is_there(local, "session", second.spec.session_id)


async def test_a_dry_run_only_tells(local: Api) -> None:
    made = await run(local, await agent_of(local))
    told = await prune(local.app.resources, Kept(days=1), dry_run=True, now=time.time() + 2 * DAY)
    assert told == {KIND: 1, "session": 1}
    assert await is_there(local, KIND, made.metadata.id)


async def test_whoever_watches_is_told(local: Api) -> None:
    made = await run(local, await agent_of(local))
    changes = local.app.resources.store.watch(id=made.metadata.id)
    await prune(local.app.resources, Kept(days=1), now=time.time() + 2 * DAY)
    async with asyncio.timeout(10):
        assert (await anext(changes)).operation.value == "deleted"


async def test_a_server_prunes_by_itself(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        agent = await agent_of(api)
        runs = [await run(api, agent) for _ in range(3)]
    async with serve(tmp_path, keep_finished_count=1) as api:
        async with asyncio.timeout(10):
            while await is_there(api, KIND, runs[1].metadata.id):  # noqa: ASYNC110 - the server does it in its own time
                await asyncio.sleep(0.02)
        assert await is_there(api, KIND, runs[2].metadata.id)


async def test_pruning_by_hand(tmp_path: Path) -> None:
    async with serve(tmp_path) as api:
        agent = await agent_of(api)
        for _ in range(3):
            await run(api, agent)
    assert await _prune(tmp_path, "--keep-finished-count", "1", "--dry-run") == {KIND: 2, "session": 2}
    assert await _prune(tmp_path, "--keep-finished-count", "1") == {KIND: 2, "session": 2}
    assert await _prune(tmp_path, "--keep-finished-count", "1") == {}
    with pytest.raises(SettingsError, match="keep-finished"):
        await _prune(tmp_path)


async def _prune(folder: Path, *arguments: str) -> dict[str, int]:
    command = parse(["prune", *arguments, "--db-path", str(folder / "stigmer.db")])
    assert command.operation is not None
    return (await asyncio.to_thread(command.operation.run, command.settings, command.options)).data["removed"]
