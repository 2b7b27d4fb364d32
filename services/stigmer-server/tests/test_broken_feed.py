"""A change feed that breaks off, as on a disk that cannot be read for a moment: nobody goes without news for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from stigmer_sqlite import SqliteStore
from stigmer_sqlite.errors import StoreUnavailableError
from stigmer_sqlite.port import Change, ResourceStore

from stigmer_server import collector
from stigmer_server.artifacts import ARCHIVES, Artifacts
from stigmer_server.streams import Streams
from stigmer_server.testing import Api, serve

Make = Callable[..., Awaitable[Any]]
KIND = "agent_execution"


class BreakingStore:
    """A store whose first watch tells nothing and breaks off when it is told to."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._watches = 0
        self.breaks = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def watch(self, *, kinds: Sequence[str]) -> AsyncIterator[Change]:
        self._watches += 1
        return self._breaking() if self._watches == 1 else self._store.watch(kinds=kinds)

    async def _breaking(self) -> AsyncIterator[Change]:
        await self.breaks.wait()
        raise StoreUnavailableError("the disk cannot be read")
        yield


def breaking(api: Api) -> BreakingStore:
    return BreakingStore(cast("SqliteStore", api.app.resources.store))


async def test_who_follows_an_execution_is_told_what_has_happened_meanwhile_and_what_comes(
    tmp_path: Path, make: Make
) -> None:
    async with serve(tmp_path, log_level="error") as api:
        made, gone = await make(api, KIND), await make(api, KIND)
        resources, store = api.app.resources, breaking(api)
        kind = resources.kinds[KIND]
        streams = Streams(cast("ResourceStore", store), resources.kinds, resources.shown)
        streams.start()
        with streams.follow(kind, made.metadata.id) as follower, streams.follow(kind, gone.metadata.id) as other:
            for one, execution in ((follower, made), (other, gone)):
                one.offer(await resources.store.get(KIND, execution.metadata.id))
            states, others = aiter(follower), aiter(other)
            assert kind.parse(await anext(states)) == made
            await anext(others)
            begun = await report(api, made, "EXECUTION_IN_PROGRESS")
            await api(KIND, "delete", {"value": gone.metadata.id})
            store.breaks.set()
            async with asyncio.timeout(10):
                assert kind.parse(await anext(states)) == begun
                assert [state async for state in others] == []
                ended = await report(api, made, "EXECUTION_COMPLETED")
                assert [kind.parse(state) async for state in states] == [ended]
        await streams.close()


async def test_what_nothing_names_any_more_is_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "_RETRY_SECONDS", 0.01)
    async with serve(tmp_path, log_level="error") as api:
        store, artifacts = breaking(api), Artifacts(tmp_path / "others")
        collecting = asyncio.create_task(collector.collect_archives(cast("ResourceStore", store), artifacts))
        async with artifacts.receiving() as incoming:
            await incoming.write(b"nobody's")
            kept = tmp_path / "others" / ARCHIVES.key_of(incoming.hash)
            await incoming.keep()
        store.breaks.set()
        async with asyncio.timeout(10):
            while kept.exists():  # noqa: ASYNC110 - files tell of nothing
                await asyncio.sleep(0.01)
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)


async def report(api: Api, execution: Any, phase: str) -> Any:
    return await api(KIND, "updateStatus", {"executionId": execution.metadata.id, "status": {"phase": phase}})
