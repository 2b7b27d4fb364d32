"""One id per call, in the caller's hands and in every log line of the call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from loguru import logger

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import REQUEST_ID
from stigmer_grpc.interceptors.port import CallNext, CallNextStream


class RequestId:
    """Takes x-request-id from the caller or makes one, logs with it as `request_id`, and returns it in the trailers.

    A call with one response that succeeds returns none: trailers there cost a sixth of the whole call, and who wants
    to find such a call in the log sends an id.
    """

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        with logger.contextualize(request_id=context.request_id):
            try:
                return await call_next(request, context)
            except BaseException:
                _announce(context)
                raise

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        _announce(context)
        with logger.contextualize(request_id=context.request_id):
            responses: Any = call_next(request, context)
            async with aclosing(responses):
                async for response in responses:
                    yield response


def _announce(context: CallContext) -> None:
    context.set_trailing_metadata({REQUEST_ID: context.request_id})
