"""Removes artifacts that nothing names any more: at the start, and whenever what did was deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loguru import logger
from stigmer_sqlite.errors import StoreError
from stigmer_sqlite.port import Change, Operation, Reader, ResourceStore

from stigmer_server import change_feed, files, values
from stigmer_server.artifacts import Artifacts

_RETRY_SECONDS = 30.0


Named = Callable[[Reader], frozenset[str]]
"""Returns the hashes of the artifacts that are named."""


async def collect_archives(store: ResourceStore, artifacts: Artifacts) -> None:
    """Sweep archives of skills until the store closes."""
    await _collect(store, artifacts, "skill", _archived)


async def collect_values(store: ResourceStore, artifacts: Artifacts) -> None:
    """Sweep large values of executions until the store closes."""
    await _collect(store, artifacts, values.SCHEMA.kind, values.named)


async def collect_files(store: ResourceStore, artifacts: Artifacts) -> None:
    """Sweep files of workspaces until the store closes."""
    await _collect(store, artifacts, files.SCHEMA.kind, files.named)


async def _collect(store: ResourceStore, artifacts: Artifacts, kind: str, named: Named) -> None:
    """Sweep until the store closes. A sweep that fails, as on a broken disk, is tried again later.

    However much is deleted at once, or while a sweep goes on, one sweep is enough for all of it.
    """
    swept = 0

    async def look() -> None:
        nonlocal swept
        swept = await _sweep(store, artifacts, named)

    async def hear(change: Change) -> None:
        if change.operation is Operation.DELETED and change.sequence > swept:
            await look()

    what = f"what {artifacts.form.name}s are needed no more"
    await change_feed.follow(lambda: store.watch(kinds=(kind,)), look, hear, what=what, pause=_RETRY_SECONDS)


async def _sweep(store: ResourceStore, artifacts: Artifacts, named: Named) -> int:
    """Sweep once; return the last change that it has seen for sure."""
    what = artifacts.form.name
    while True:
        try:
            seen = await store.last_sequence()
            # A read, which holds no writer up: what a push is just naming is held until that has committed.
            if removed := await artifacts.sweep(lambda: store.read(named)):
                logger.info("removed {} {}s that nothing needs any more", removed, what)
        except (StoreError, OSError) as error:
            logger.warning("{}s that nothing needs could not be removed, and stay for now: {}", what, error)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return seen


def _archived(reader: Reader) -> frozenset[str]:
    return reader.archived_hashes()
