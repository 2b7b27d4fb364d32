"""Artifacts that nothing names any more: removed soon, and without work that grows with what is deleted at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from stigmer_sqlite import SqliteStore

from stigmer_server import collector, files
from stigmer_server.artifacts import FILES, Artifacts
from stigmer_server.files import File
from stigmer_server.testing import serve


class Counting(Artifacts):
    """Artifacts that count how often they are swept."""

    sweeps = 0

    async def sweep(self, named: Callable[[], Awaitable[frozenset[str]]]) -> int:
        self.sweeps += 1
        return await super().sweep(named)


async def put(artifacts: Artifacts, store: SqliteStore, owner: str, content: bytes, *, times: int) -> Path:
    """Put the content into a session under so many names, and return where it is."""
    async with artifacts.receiving() as incoming:
        await incoming.write(content)
        await incoming.keep()
        made = [File(owner=owner, path=f"{at}", hash=incoming.hash, bytes=1, at=0) for at in range(times)]
        await store.transact(lambda tx: [files.save(tx, each) for each in made])
    return Path(FILES.key_of(incoming.hash))


async def gone(path: Path) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(path.exists):  # noqa: ASYNC110 - files tell of nothing
            await asyncio.sleep(0.01)


async def test_what_is_deleted_together_is_swept_together(tmp_path: Path) -> None:
    async with serve(tmp_path, log_level="error") as api:
        artifacts, root = Counting(tmp_path / "others", FILES), tmp_path / "others"
        store = api.app.resources.store
        assert isinstance(store, SqliteStore)
        many = root / await put(artifacts, store, "ses-1", b"many", times=300)
        last = root / await put(artifacts, store, "ses-2", b"last", times=1)
        collecting = asyncio.create_task(collector.collect_files(store, artifacts))
        # The collector follows the changes from here on.
        nobodys = root / await put(artifacts, store, "ses-3", b"nobody's", times=0)
        await store.transact(lambda tx: files.remove(tx, "ses-1", "0"))
        await gone(nobodys)
        assert many.exists()
        await store.transact(lambda tx: files.drop(tx, "ses-1"))
        await gone(many)
        assert last.exists()
        await store.transact(lambda tx: files.drop(tx, "ses-2"))
        await gone(last)
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
    assert artifacts.sweeps <= 6
