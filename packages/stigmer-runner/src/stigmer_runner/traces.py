"""The traces of a runner: off unless its settings say where to send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from stigmer_grpc.traces import open_tracing

from stigmer_runner.settings import RunnerSettings

if TYPE_CHECKING:
    from stigmer_grpc.tracing import Tracing


@asynccontextmanager
async def traces(settings: RunnerSettings) -> AsyncGenerator[Tracing | None]:
    """Open the traces of the process for a block, and send what is left at its end; None where nobody wants any."""
    tracing = open_tracing(
        settings.program,
        exporter=settings.traces_exporter,
        endpoint=settings.otlp_endpoint,
        traces_endpoint=settings.otlp_traces_endpoint,
    )
    try:
        yield tracing
    finally:
        if tracing is not None:
            await asyncio.to_thread(tracing.close)
