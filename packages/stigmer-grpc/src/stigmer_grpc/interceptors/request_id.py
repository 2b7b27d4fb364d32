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
    """Takes x-request-id from the caller or makes one, logs with it as `request_id`, and returns it in the trailers."""

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        with logger.contextualize(request_id=_announce(context)):
            return await call_next(request, context)

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        with logger.contextualize(request_id=_announce(context)):
            responses: Any = call_next(request, context)
            async with aclosing(responses):
                async for response in responses:
                    yield response


def _announce(context: CallContext) -> str:
    request_id = context.request_id
    if context.trailing is None:
        # The id is known to be sendable, so the checks of set_trailing_metadata are spared on every call.
        context.trailing = {REQUEST_ID: request_id}
    else:
        context.trailing[REQUEST_ID] = request_id
    return request_id
