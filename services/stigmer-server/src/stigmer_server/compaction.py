"""Keeps the change feed short: what nobody will ask for any more is dropped, a little at a time."""

from __future__ import annotations

import asyncio

from loguru import logger
from stigmer_sqlite.errors import ClosedError, StoreError
from stigmer_sqlite.port import ResourceStore

INTERVAL_SECONDS = 10.0
_STEP = 500
"""Changes that are dropped at once; writers wait no longer for it than for each other."""
_BREATH_SECONDS = 0.02


async def compact(store: ResourceStore, *, keep: int) -> None:
    """Drop all but the newest changes time and again, until the store closes.

    A failure, as of a full disk, is logged and tried again later.
    """
    while True:
        try:
            dropped = 0
            while step := await store.compact(keep=keep, limit=_STEP):
                dropped += step
                await asyncio.sleep(_BREATH_SECONDS)
            if dropped:
                logger.debug("dropped {} changes that are older than the newest {}", dropped, keep)
        except ClosedError:
            return
        except StoreError as error:
            logger.warning("old changes could not be dropped, and stay for now: {}", error)
        await asyncio.sleep(INTERVAL_SECONDS)
