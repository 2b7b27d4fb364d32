"""One log line a call: method, code, milliseconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from time import perf_counter
from typing import Any

from loguru import logger

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import RpcError, StatusCode
from stigmer_grpc.interceptors.port import CallNext, CallNextStream

Describe = Callable[[CallContext], Mapping[str, str]]
"""Returns what else is to be logged of a call that has ended, such as who made it."""


def _nothing(context: CallContext) -> Mapping[str, str]:
    del context
    return {}


class Logging:
    """Logs how each call ended: method, code and milliseconds, in the text and as fields of the record.

    A line that is emitted costs loguru tens of microseconds, a good part of what the call itself does; one below
    every sink's level costs half of one. So calls that end well, and those the caller gave up, are logged at DEBUG
    and only failures at WARNING.

    Args:
        success: Level of calls that end with OK or CANCELLED.
        failure: Level of all others, and of slow ones.
        slow: Seconds from which a call with one response counts as slow; 0: none does.
        describe: Further fields.
    """

    def __init__(
        self,
        *,
        success: str = "DEBUG",
        failure: str = "WARNING",
        slow: float = 0.0,
        describe: Describe = _nothing,
    ) -> None:
        self._success = success
        self._failure = failure
        self._slow = slow or math.inf
        self._describe = describe

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        started = perf_counter()
        try:
            response = await call_next(request, context)
        except BaseException as error:
            self._ended(context, started, error)
            raise
        took = perf_counter() - started
        if took < self._slow:
            self._log(self._success, context, "OK", took, "")
        else:
            self._log(self._failure, context, "OK", took, ", which is slow")
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
        self._log(self._success, context, "OK", perf_counter() - started, f" after {sent} messages")

    def _ended(self, context: CallContext, started: float, error: BaseException, sent: int | None = None) -> None:
        code = code_of(error, context)
        level = self._success if code is StatusCode.CANCELLED else self._failure
        after = "" if sent is None else f" after {sent} messages"
        # An error that is no RpcError is logged with its traceback where it becomes INTERNAL; its text is not for here.
        why = error.message if isinstance(error, RpcError) else type(error).__name__
        self._log(level, context, code.name, perf_counter() - started, f"{after}: {why!r}")

    def _log(self, level: str, context: CallContext, code: str, took: float, rest: str) -> None:
        # What is handed over by name becomes a field of the record, too.
        logger.log(
            level,
            "{method} {code} in {ms:.1f} ms{}",
            rest,
            method=context.method,
            code=code,
            ms=took * 1e3,
            **self._describe(context),
        )


def code_of(error: BaseException, context: CallContext) -> StatusCode:
    """Return the code with which a call ends that is ended by the error."""
    if isinstance(error, RpcError):
        return error.code
    if context.aborted is not None:
        return context.aborted.code
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return StatusCode.CANCELLED
    return StatusCode.INTERNAL
