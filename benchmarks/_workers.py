"""Workers in processes of their own, as people run them: what a server or a web site takes is not taken from them."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
from stigmer_grpc import run
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker
from workflow_runner.testing import RunnerProcess, Runs

PLAIN, UNTOLD = "plain", "untold"
ACTIVITY_LIMIT = timedelta(seconds=30)


class PlainCalls:
    """The activity that anybody would write."""

    def __init__(self) -> None:
        self.client = httpx2.AsyncClient()

    @activity.defn(name="plain-get")
    async def get(self, url: str) -> Any:
        response = await self.client.get(url)
        response.raise_for_status()
        return response.json()


@workflow.defn(name="plain-calls", sandboxed=False)
class PlainWorkflow:
    """The same calls, one plain activity each."""

    @workflow.run
    async def run(self, url: str, count: int) -> Any:
        answer = None
        for _ in range(count):
            answer = await workflow.execute_activity("plain-get", url, start_to_close_timeout=ACTIVITY_LIMIT)
        return answer


@asynccontextmanager
async def runner(runs: Runs, temporal: str, **options: Any) -> AsyncGenerator[RunnerProcess]:
    """A workflow-runner that takes the work of `runs`; `options` are those of its process."""
    with tempfile.TemporaryDirectory() as folder:
        process = RunnerProcess(Path(folder), temporal=temporal, server=runs.peer.address, queue=runs.queue, **options)
        await process.start()
        try:
            yield process
        finally:
            await process.kill()


def untold_runner(runs: Runs, temporal: str) -> Any:
    """A workflow-runner that tells nobody of its tasks."""
    return runner(runs, temporal, command=(__file__, UNTOLD))


class Plain:
    """Runs of plain activities on a worker of their own."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue

    async def __call__(self, url: str, count: int) -> Any:
        """Make so many calls of `url`, one after the other; the answer of the last."""
        name = f"plain-{uuid.uuid4().hex}"
        return await self._client.execute_workflow("plain-calls", args=[url, count], id=name, task_queue=self._queue)


@asynccontextmanager
async def plain_worker(client: Client, temporal: str) -> AsyncGenerator[Plain]:
    """The worker of `PlainWorkflow`."""
    queue = f"plain-{uuid.uuid4().hex}"
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, PLAIN, temporal, queue)
    try:
        yield Plain(client, queue)
    finally:
        process.kill()
        await process.wait()


async def serve_plain(temporal: str, queue: str) -> None:
    """Take work until the process is killed."""
    client, calls = await Client.connect(temporal), PlainCalls()
    async with Worker(client, task_queue=queue, workflows=[PlainWorkflow], activities=[calls.get]):
        await asyncio.Event().wait()


def serve_untold() -> None:
    """Be a workflow-runner whose reporter hears of nothing."""
    from workflow_runner.__main__ import main
    from workflow_runner.reporter import Reporter

    def unheard(_: Reporter, __: Any) -> int:
        return 0

    with patch.object(Reporter, "add", unheard):
        main()


if __name__ == "__main__":
    if sys.argv[1] == UNTOLD:
        del sys.argv[1]
        serve_untold()
    run(serve_plain(*sys.argv[2:]))
