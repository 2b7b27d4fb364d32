"""Removes archives that no version of any skill names any more: at the start, and whenever a skill was deleted."""

from __future__ import annotations

import asyncio

from loguru import logger
from stigmer_sqlite.errors import StoreError
from stigmer_sqlite.port import Operation, ResourceStore, Transaction

from stigmer_server.artifacts import Artifacts

_RETRY_SECONDS = 30.0


async def collect(store: ResourceStore, artifacts: Artifacts) -> None:
    """Sweep until the store closes. A sweep that fails, as on a broken disk, is tried again later."""
    changes = store.watch(kinds=("skill",))
    await _sweep(store, artifacts)
    async for change in changes:
        if change.operation is Operation.DELETED:
            await _sweep(store, artifacts)


async def _sweep(store: ResourceStore, artifacts: Artifacts) -> None:
    while True:
        try:
            if removed := await artifacts.sweep(lambda: store.transact(_named)):
                logger.info("removed {} archives that no skill needs any more", removed)
        except (StoreError, OSError) as error:
            logger.warning("archives that no skill needs could not be removed, and stay for now: {}", error)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


def _named(transaction: Transaction) -> frozenset[str]:
    # In a transaction, and so after every push that was committing when the sweep began.
    return transaction.archived_hashes()
