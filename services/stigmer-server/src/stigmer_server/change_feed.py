"""The change feed, as those follow it who have to know of everything that there is, and of every change to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from loguru import logger
from stigmer_sqlite.errors import ClosedError, StoreError

T = TypeVar("T")


async def follow(
    watch: Callable[[], AsyncIterator[T]],
    look: Callable[[], Awaitable[None]],
    hear: Callable[[T], Awaitable[None]],
    *,
    what: str,
    pause: float = 1.0,
    through: tuple[type[Exception], ...] = (),
) -> None:
    """Look at what there is, then hear every change, until the store closes.

    What changes during the look is heard after it. Where the feed breaks off, or any of it fails, all of it begins anew
    a little later: nobody goes without news for good.

    Args:
        watch: Begins to watch.
        look: Takes in what there is.
        hear: Takes in a change.
        what: What is followed, for the log.
        pause: Seconds before it begins anew.
        through: Errors that end it, and are raised.
    """
    while True:
        try:
            changes = watch()
            await look()
            async for change in changes:
                await hear(change)
            return
        except through:
            raise
        except ClosedError:
            return
        except StoreError as error:
            logger.warning("{} will be looked at anew: {}", what, error)
        except Exception:  # noqa: BLE001 - a fault with one change must not hide all that come after it
            logger.exception("{} will be looked at anew", what)
        await asyncio.sleep(pause)
