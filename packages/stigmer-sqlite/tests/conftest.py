"""The stores that the contract runs over, and the records it stores in them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from stigmer_sqlite import KindSchema, MemoryStore, Record, ResourceStore, SqliteStore

SCHEMAS = (
    KindSchema(kind="agent", indexes={"phase": "$.status.phase", "done": "$.status.done", "size": "$.spec.sizes[0]"}),
    KindSchema(kind="run", named=False, indexes={"agent_id": "$.spec.agentId", "odd": '$."odd key"'}),
)


@pytest.fixture
def schemas() -> tuple[KindSchema, ...]:
    return SCHEMAS


@pytest.fixture(params=["memory", "sqlite-file", "sqlite-memory", "sqlite-threads"])
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Awaitable[ResourceStore]]:
    """Every implementation of the port, by turns; the last is SQLite with no allowance on the event loop's thread."""
    if request.param == "sqlite-threads":
        monkeypatch.setattr("stigmer_sqlite.sqlite_store._NEAR_SECONDS", -1)
        monkeypatch.setattr("stigmer_sqlite.writer._JOB_SECONDS", -1)

    async def open_one() -> ResourceStore:
        match request.param:
            case "memory":
                return MemoryStore(SCHEMAS)
            case "sqlite-file" | "sqlite-threads":
                return await SqliteStore.open(tmp_path / "store.db", SCHEMAS)
            case _:
                return await SqliteStore.open(":memory:", SCHEMAS)

    return open_one


@pytest.fixture
async def store(open_store: Callable[[], Awaitable[ResourceStore]]) -> AsyncIterator[ResourceStore]:
    store = await open_store()
    yield store
    await store.close()


@pytest.fixture
async def file_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with await SqliteStore.open(tmp_path / "store.db", SCHEMAS) as store:
        yield store


@pytest.fixture
def agent() -> Callable[..., Record]:
    """Make an agent: `agent("a1", name="Ann", phase="ready", slug="ann")`."""

    def make(id: str, *, name: str = "", phase: str = "", slug: str | None = None, **fields: object) -> Record:
        document = {"metadata": {"name": name}, "status": {"phase": phase}} | fields.pop("document", {})  # type: ignore[operator]
        return Record(kind="agent", id=id, slug=id if slug is None else slug, data=json.dumps(document), **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def run() -> Callable[..., Record]:
    """Make a run, whose slug names nothing: `run("r1", agent_id="a1")`."""

    def make(id: str, *, agent_id: str = "", **fields: object) -> Record:
        return Record(kind="run", id=id, data=json.dumps({"spec": {"agentId": agent_id}}), **fields)  # type: ignore[arg-type]

    return make
