"""Collecting the blobs of runs that Temporal does not keep any more.

A run's blobs are needed for as long as Temporal has its history, and one run longer: a run that goes on as a new one
passes its state in a blob of its own. So a run lets go of its blobs when Temporal knows neither it nor the run of the
same workflow that stored something after it; the last one, when Temporal knows nothing of the workflow any more.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterable

from loguru import logger
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from stigmer_runner.claims.port import BlobStore, BlobStoreError, Stored


async def collect(client: Client, store: BlobStore, *, grace_seconds: float) -> int:
    """Let go what no history refers to, and was not touched for a while; return of how many runs.

    The grace is for payloads that are stored, but whose run Temporal does not know yet.

    Raises:
        RPCError: Temporal does not answer; nothing is removed without its word.
        BlobStoreError: The store cannot be read.
    """
    before = time.time() - grace_seconds
    workflows: dict[tuple[str, str], list[Stored]] = defaultdict(list)
    for stored in await asyncio.to_thread(lambda: list(store.stored())):
        workflows[stored.owner.namespace, stored.owner.workflow_id].append(stored)
    dropped = 0
    for (namespace, _), runs in workflows.items():
        # Another namespace may have another lease of life, and is none of this client's business.
        if namespace == client.namespace and any(run.touched < before for run in runs):
            for run in await _unneeded(client, runs):
                dropped += await asyncio.to_thread(store.drop, run.owner, before=before)
    await asyncio.to_thread(store.sweep, before=before)
    return dropped


async def _unneeded(client: Client, runs: Iterable[Stored]) -> list[Stored]:
    ordered = sorted(runs, key=lambda run: run.began)
    workflow = ordered[0].owner.workflow_id
    if not await _is_known(client, workflow, ""):
        return ordered
    # One without a run id is of whichever run came first.
    known = [not run.owner.run_id or await _is_known(client, workflow, run.owner.run_id) for run in ordered]
    return [run for run, kept, next_kept in zip(ordered, known, known[1:], strict=False) if not kept and not next_kept]


async def _is_known(client: Client, workflow_id: str, run_id: str) -> bool:
    try:
        await client.get_workflow_handle(workflow_id, run_id=run_id or None).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def keep_collecting(
    client: Client, stores: Iterable[BlobStore], *, every_seconds: float, grace_seconds: float
) -> None:
    """Collect again and again, until cancelled. Several processes may do so at once."""
    while True:
        # Not all at the same time.
        await asyncio.sleep(every_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        for store in stores:
            try:
                count = await collect(client, store, grace_seconds=grace_seconds)
            except (RPCError, BlobStoreError, OSError) as error:
                logger.warning("large values in {} are not collected: {}", store.place, error)
            else:
                if count:
                    logger.info("{} runs let go of their large values in {}", count, store.place)
