"""One log line a call: method, code, milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import perf_counter
from typing import Any

from loguru import logger

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import RpcError, StatusCode
from stigmer_grpc.interceptors.port import CallNext, CallNextStream


class Logging:
    """Logs how each call ended.

    A line that is emitted costs loguru tens of microseconds, a good part of what the call itself does; one below
    every sink's level costs half of one. So calls that end well, and those the caller gave up, are logged at DEBUG
    and only failures at WARNING.

    Args:
        success: Level of calls that end with OK or CANCELLED.
        failure: Level of all others.
    """

    def __init__(self, *, success: str = "DEBUG", failure: str = "WARNING") -> None:
        self._success = success
        self._failure = failure

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        started = perf_counter()
        try:
            response = await call_next(request, context)
        except BaseException as error:
            self._ended(context, started, error)
            raise
        logger.log(self._success, "{} OK in {:.1f} ms", context.method, (perf_counter() - started) * 1e3)
        return response

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        started = perf_counter()
        sent = 0
        try:
            responses: Any = call_next(request, context)
            async with aclosing(responses):
                async for response in responses:
                    sent += 1
                    yield response
        except BaseException as error:
            self._ended(context, started, error, sent)
            raise
        took = (perf_counter() - started) * 1e3
        logger.log(self._success, "{} OK in {:.1f} ms after {} messages", context.method, took, sent)

    def _ended(self, context: CallContext, started: float, error: BaseException, sent: int | None = None) -> None:
        code = code_of(error, context)
        took = (perf_counter() - started) * 1e3
        level = self._success if code is StatusCode.CANCELLED else self._failure
        after = "" if sent is None else f" after {sent} messages"
        # An error that is no RpcError is logged with its traceback where it becomes INTERNAL; its text is not for here.
        why = error.message if isinstance(error, RpcError) else type(error).__name__
        logger.log(level, "{} {} in {:.1f} ms{}: {!r}", context.method, code.name, took, after, why)


def code_of(error: BaseException, context: CallContext) -> StatusCode:
    """Return the code with which a call ends that is ended by the error."""
    if isinstance(error, RpcError):
        return error.code
    if context.aborted is not None:
        return context.aborted.code
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return StatusCode.CANCELLED
    return StatusCode.INTERNAL
