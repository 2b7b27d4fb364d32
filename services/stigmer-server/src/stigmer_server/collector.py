"""Removes artifacts that nothing names any more: at the start, and whenever what did was deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loguru import logger
from stigmer_sqlite.errors import CompactedError, StoreError, StoreUnavailableError
from stigmer_sqlite.port import Operation, Reader, ResourceStore

from stigmer_server import files, values
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
    while True:
        changes = store.watch(kinds=(kind,))
        swept = await _sweep(store, artifacts, named)
        try:
            async for change in changes:
                if change.operation is Operation.DELETED and change.sequence > swept:
                    swept = await _sweep(store, artifacts, named)
            return
        except (CompactedError, StoreUnavailableError) as error:
            logger.warning("what {}s are needed no more is looked for anew: {}", artifacts.form.name, error)
        await asyncio.sleep(_RETRY_SECONDS)


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
