"""One log line a call: method, code, milliseconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

from loguru import logger

from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import RpcError, StatusCode

Describe = Callable[[CallContext], Mapping[str, str]]
"""Returns what else is to be logged of a call that has ended, such as who made it."""
_LONGEST = 1000
"""Characters of an error's message in the log."""


def _nothing(context: CallContext) -> Mapping[str, str]:
    del context
    return {}


class Logging:
    """Logs how each call ended: method, code and milliseconds, in the text and as fields of the record.

    A line that is emitted costs loguru tens of microseconds, a good part of what the call itself does; one below
    every sink's level costs one or two. So calls that end well, and those the caller gave up, are logged at DEBUG
    and only failures at WARNING.

    Args:
        success: Level of calls that end with OK or CANCELLED; empty where no sink would take it, which costs nothing.
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

    def ended(self, context: CallContext, took: float, sent: int | None = None) -> None:
        """Log a call that ended well: after so many seconds, and messages if it has many responses."""
        if sent is None and took >= self._slow:
            self._log(self._failure, context, "OK", took, ", which is slow")
        elif self._success:
            self._log(self._success, context, "OK", took, _after(sent))

    def failed(self, context: CallContext, took: float, error: BaseException, sent: int | None = None) -> None:
        """Log a call that the error ended."""
        code = code_of(error, context)
        level = self._success if code is StatusCode.CANCELLED else self._failure
        # An error that is no RpcError is logged with its traceback where it becomes INTERNAL; its text is not for here.
        why = _shortened(error.message) if isinstance(error, RpcError) else type(error).__name__
        if level:
            self._log(level, context, code.name, took, f"{_after(sent)}: {why!r}")

    def _log(self, level: str, context: CallContext, code: str, took: float, rest: str) -> None:
        # What is handed over by name becomes a field of the record, too.
        logger.log(
            level,
            "{method} {code} in {ms:.1f} ms{}",
            rest,
            method=context.method,
            code=code,
            ms=took * 1e3,
            request_id=context.request_id,
            **self._describe(context),
        )


def _shortened(message: str) -> str:
    """Return as much of a message as a line of the log takes: it may quote a request, which may be megabytes long."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"


def _after(sent: int | None) -> str:
    return "" if sent is None else f" after {sent} messages"


def code_of(error: BaseException, context: CallContext) -> StatusCode:
    """Return the code with which a call ends that is ended by the error."""
    if isinstance(error, RpcError):
        return error.code
    if context.aborted is not None:
        return context.aborted.code
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return StatusCode.CANCELLED
    return StatusCode.INTERNAL
