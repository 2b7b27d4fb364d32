"""The request id in every log line that is written on behalf of a call, whoever writes it.

The call is remembered in a context variable, and its id is looked up when a line is emitted and not before: entering
it into loguru's own context would cost every call what only few of them need.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from stigmer_grpc.context import CallContext

if TYPE_CHECKING:
    from loguru import Record

current: ContextVar[CallContext | None] = ContextVar("the call that is being answered", default=None)
"""Set by the dispatcher in the task of each call, and seen in the tasks that the call begins."""


def with_request_id(record: Record) -> None:
    """Put the request id of the call under way into a log record: `logger.configure(patcher=with_request_id)`."""
    call = current.get()
    if call is not None:
        record["extra"].setdefault("request_id", call.request_id)
