"""The life of a Temporal worker: connect late, work, drain, stop."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger
from temporalio.client import Client, Interceptor
from temporalio.converter import DataConverter
from temporalio.service import GrpcCompression
from temporalio.worker import Worker

from stigmer_runner.claims import BlobStore, LostBlob, Owner, claim_converter, keep_collecting, stores_of
from stigmer_runner.settings import RunnerSettings

if TYPE_CHECKING:
    from stigmer_grpc.tracing import Tracing

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_ANNOUNCE_PAUSE = 0.01
_CONNECT_LIMIT = timedelta(seconds=5)

MakeWorker = Callable[[Client], Worker | tuple[Worker, ...]]
"""Makes the worker, or several where work comes from several queues."""


async def run_worker(
    settings: RunnerSettings,
    make_worker: MakeWorker,
    *,
    stop: asyncio.Event,
    on_lost: LostBlob | None = None,
    tracing: "Tracing | None" = None,
) -> None:
    """Work until `stop` is set, then let calls in flight finish and return.

    Large values go to the stores of `settings`, and from there when no history needs them. A run that needs one
    which is gone is terminated, after `on_lost` was told.

    Temporal need not be there yet: connecting is tried again with growing pauses, and so is a worker
    that failed as a whole. While work is taken, the line `ready` has been logged and the ready file exists.
    `tracing` goes on with the traces of whoever started the runs.
    """
    pause = _FIRST_PAUSE
    stores = stores_of(settings)
    known: list[Client] = []

    async def end(owner: Owner, detail: str) -> None:
        if on_lost is not None:
            await on_lost(owner, detail)
        for client in known:
            await client.get_workflow_handle(owner.workflow_id).terminate(reason=detail)

    converter = claim_converter(settings, stores, on_lost=end)
    while not stop.is_set():
        try:
            client = await _connect(settings, converter, _interceptors(tracing))
            known[:] = [client]
            made = make_worker(client)
            async with _collecting(client, stores, settings):
                await _work(made if isinstance(made, tuple) else (made,), stop, settings.ready_file)
            pause = _FIRST_PAUSE
        except (RuntimeError, OSError) as error:
            logger.warning("no work from Temporal at {} yet: {}", settings.temporal_address, error)
            await _sleep(pause, stop)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _interceptors(tracing: "Tracing | None") -> list[Interceptor]:
    if tracing is None:
        return []
    # Workers use those of their client. What a run carries of a trace is in headers, which no replay looks at.
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor(tracing.tracer)]


async def _connect(settings: RunnerSettings, data_converter: DataConverter, interceptors: list[Interceptor]) -> Client:
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        data_converter=data_converter,
        interceptors=interceptors,
        connect_timeout=_CONNECT_LIMIT,
        # Compressing what stays on this machine costs both sides time and saves nothing.
        grpc_compression=GrpcCompression.NONE if _is_local(settings.temporal_address) else GrpcCompression.GZIP,
    )


@contextlib.asynccontextmanager
async def _collecting(client: Client, stores: Sequence[BlobStore], settings: RunnerSettings) -> AsyncGenerator[None]:
    """Remove large values that no history needs, meanwhile."""
    if not stores or not settings.blob_sweep_seconds:
        yield
        return
    every, grace = settings.blob_sweep_seconds, settings.blob_grace_seconds
    collecting = asyncio.create_task(keep_collecting(client, stores, every_seconds=every, grace_seconds=grace))
    try:
        yield
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)


async def _work(workers: tuple[Worker, ...], stop: asyncio.Event, ready_file: Path | None) -> None:
    running = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    announcing = asyncio.create_task(_announce(workers, ready_file))
    try:
        await asyncio.wait((*running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            logger.info("stopping: no new work is taken, calls in flight may finish")
        # One that failed takes the others along: all begin again together.
        await asyncio.gather(*(each.shutdown() for each, run in zip(workers, running, strict=True) if not run.done()))
        await asyncio.gather(*running)
    finally:
        stopping.cancel()
        announcing.cancel()
        _set_ready(ready_file, ready=False)


async def _announce(workers: tuple[Worker, ...], ready_file: Path | None) -> None:
    """Say that work is taken, once the workers have been accepted by Temporal and poll."""
    while not all(worker.is_running for worker in workers):  # noqa: ASYNC110 - workers offer no event to wait for
        await asyncio.sleep(_ANNOUNCE_PAUSE)
    _set_ready(ready_file, ready=True)
    logger.info("ready")


def _set_ready(file: Path | None, *, ready: bool) -> None:
    if file is None:
        return
    if ready:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    else:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Generator[None]:
    """Set `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        yield
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
