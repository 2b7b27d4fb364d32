"""One table from the errors of a program to the errors of its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeAlias

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import RpcError
from stigmer_grpc.interceptors.port import CallNext, CallNextStream

ErrorTable: TypeAlias = Mapping[type[Exception], Callable[[Any], RpcError]]
"""Exception type to what makes the RpcError of one; an entry stands for subclasses too, the nearest counts."""


class ErrorMapping:
    """Turns what handlers raise into RpcErrors by `table`; what is not in it goes on and becomes INTERNAL, logged."""

    def __init__(self, table: ErrorTable) -> None:
        self._table = dict(table)

    async def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """See UnaryInterceptor."""
        try:
            return await call_next(request, context)
        except RpcError:
            raise
        except Exception as error:
            mapped = self._map(error)
            if mapped is None:
                raise
            raise mapped from error

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        try:
            async for response in call_next(request, context):
                yield response
        except RpcError:
            raise
        except Exception as error:
            mapped = self._map(error)
            if mapped is None:
                raise
            raise mapped from error

    def _map(self, error: Exception) -> RpcError | None:
        for kind in type(error).__mro__:
            make = self._table.get(kind)
            if make is not None:
                return make(error)
        return None
