"""How the server says that its parts are: the store, a real Temporal that comes and goes, and a worker of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from stigmer_grpc import NotFoundError, connect
from stigmer_sqlite import KindSchema, Record, SqliteStore, StoreUnavailableError
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from stigmer_server.monitoring.status import Component, State, Status
from stigmer_server.settings_flags import load
from stigmer_server.testing import Api, TemporalServer, serve

READY, AWAY, OFF = "COMPONENT_STATE_READY", "COMPONENT_STATE_AWAY", "COMPONENT_STATE_OFF"


async def told(api: Api) -> dict[str, str]:
    """Return what the server says: the state of each component by its name, and whether it is ready."""
    status = await api.channel.service("ai.stigmer.operations.v1.ServerController").unary("getStatus", {})
    names = (
        status.DESCRIPTOR.fields_by_name["components"].message_type.fields_by_name["state"].enum_type.values_by_number
    )
    return {"ready": str(status.ready)} | {each.name: names[each.state].name for each in status.components}


async def until(api: Api, expected: dict[str, str]) -> None:
    """Wait until the server says just this."""
    last: dict[str, str] = {}
    try:
        async with asyncio.timeout(40):
            while last != expected:
                last = await told(api)
                await asyncio.sleep(0.2)
    except TimeoutError:
        assert last == expected


async def test_a_server_without_an_engine_needs_only_its_store(api: Api) -> None:
    away = {"temporal": OFF, "workflow-runner": OFF, "agent-runner": OFF}
    assert await told(api) == {"ready": "True", "store": READY, **away}


async def test_version_and_start_are_told(api: Api) -> None:
    status = await api.channel.service("ai.stigmer.operations.v1.ServerController").unary("getStatus", {})
    assert status.version
    assert status.started_at.seconds > 1_700_000_000


@workflow.defn(name="nothing", sandboxed=False)
class Nothing:
    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


@pytest.mark.slow
async def test_temporal_and_runners_come_and_go(tmp_path: Path) -> None:
    temporal = TemporalServer(tmp_path)
    await asyncio.to_thread(temporal.start)
    try:
        queue: dict[str, Any] = {"workflow_execution_queue": "here", "runners": "workflow"}
        async with serve(tmp_path, transport="tcp", engine=True, temporal_address=temporal.address, **queue) as api:
            base = {"store": READY, "agent-runner": OFF}
            await until(api, {**base, "ready": "False", "temporal": READY, "workflow-runner": AWAY})
            async with Worker(await Client.connect(temporal.address), task_queue="here", workflows=[Nothing]):
                await until(api, {**base, "ready": "True", "temporal": READY, "workflow-runner": READY})
                assert await health(api, "stigmer.workflow-runner") == "SERVING"
            await asyncio.to_thread(temporal.stop)
            await until(api, {**base, "ready": "False", "temporal": AWAY, "workflow-runner": AWAY})
            assert await health(api, "stigmer.temporal") == "NOT_SERVING"
            assert await health(api, "stigmer.store") == "SERVING"
            assert await health(api, "") == "SERVING"
            # A Temporal that has just started has not been asked for work by anybody.
            await asyncio.to_thread(temporal.start)
            await until(api, {**base, "ready": "False", "temporal": READY, "workflow-runner": AWAY})
    finally:
        await asyncio.to_thread(temporal.stop)


async def health(api: Api, name: str) -> str:
    async with connect(api.app.addresses[0], pool=descriptor_pool.Default()) as channel:
        answer = await channel.service("grpc.health.v1.Health").unary("Check", {"service": name})
    return str(answer.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[answer.status].name)


async def test_health_knows_the_components_by_name(tmp_path: Path) -> None:
    async with serve(tmp_path, transport="tcp") as api:
        await told(api)
        assert await health(api, "stigmer.store") == "SERVING"
        with pytest.raises(NotFoundError):
            await health(api, "stigmer.nothing")


async def test_a_write_that_failed_just_now_is_held_against_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stigmer_server.monitoring.status._FRESH_SECONDS", 0.0)
    seen: list[Component] = []
    # A store of its own: one write of a server in the background would show that the disk is well again.
    async with await SqliteStore.open(tmp_path / "store.db", [KindSchema(kind="agent")]) as store:
        status = Status(store, None, place="", runners={}, changed=seen.append)
        assert (await status.snapshot()).ready
        connection: Any = store._writer._connection
        connection.execute("PRAGMA max_page_count = 100")
        with pytest.raises(StoreUnavailableError):
            await store.save(Record(kind="agent", id="huge", slug="huge", data=f'"{"x" * 1_000_000}"'))
        away = await status.snapshot()
        assert (away.ready, away.components[0].detail) == (
            False,
            "write failed: database or disk is full (SQLITE_FULL), 0 s ago",
        )
        with monkeypatch.context() as later:
            later.setattr("stigmer_server.monitoring.status._FAULT_SECONDS", 0.0)
            assert (await status.snapshot()).ready
        assert not (await status.snapshot()).ready
        await store.save(Record(kind="agent", id="small", slug="small", data="{}"))
        assert (await status.snapshot()).ready
    ready_again = [State.AWAY, State.READY]
    assert [each.state for each in seen if each.name == "store"] == [State.READY, *ready_again, *ready_again]


class Slow:
    """A Temporal that answers when it is let, and counts how often it is asked."""

    connected = True

    def __init__(self) -> None:
        self.asked = 0
        self.let = asyncio.Event()

    async def pollers(self, queue: str) -> int:
        self.asked += 1
        await self.let.wait()
        return 2


async def test_many_who_ask_at_once_are_one_look(local: Api) -> None:
    temporal = Slow()
    store: Any = local.app.resources.store
    status = Status(store, temporal, place="here", runners={"a": "q"}, changed=lambda _: None)
    asking = [asyncio.create_task(status.snapshot()) for _ in range(50)]
    await asyncio.sleep(0)
    temporal.let.set()
    snapshots = await asyncio.gather(*asking)
    await status.snapshot()
    assert temporal.asked == 1
    assert snapshots[0].components[-1].detail == "2 workers take work from q"


async def test_a_temporal_that_hangs_is_away(local: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stigmer_server.monitoring.status._PATIENCE_SECONDS", 0.01)
    store: Any = local.app.resources.store
    status = Status(store, Slow(), place="here", runners={"a": "q"}, changed=lambda _: None)
    away = [component for component in (await status.snapshot()).components if component.state is State.AWAY]
    assert [component.name for component in away] == ["temporal", "a"]
    assert away[0].detail == "here does not answer"


def test_an_unknown_runner_is_a_wrong_setting() -> None:
    from stigmer_server.errors import SettingsError

    with pytest.raises(SettingsError, match="--runners"):
        load(["--runners", "workflow,other"])
    assert load(["--runners", ""]).runner_names == ()
