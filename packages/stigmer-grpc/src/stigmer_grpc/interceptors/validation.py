"""Requests are checked against the rules in their descriptors (buf.validate) before a handler sees them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from functools import cache
from typing import TYPE_CHECKING, Any

from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import FieldViolation, InvalidArgumentError
from stigmer_grpc.interceptors.port import CallNext, CallNextStream

if TYPE_CHECKING:
    from protovalidate import Validator


@cache
def validator() -> Validator:
    """The process's one validator; it compiles the rules of each message type once.

    Made at the first call, from any thread: its library takes a tenth of a second to load, which a server that is
    starting may rather spend on listening.
    """
    from protovalidate import Validator

    return Validator()


def check(message: Message) -> None:
    """Hold `message` against its rules.

    Raises:
        InvalidArgumentError: It breaks some; all of them are among the violations, with field path and rule id.
    """
    try:
        validator().validate(message)
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from None


class Validation:
    """Refuses invalid requests with INVALID_ARGUMENT; of a stream of requests, each is checked as it is read."""

    def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Awaitable[Message | bytes]:
        """See UnaryInterceptor."""
        return call_next(_checked(request, context), context)

    def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        return call_next(_checked(request, context), context)


def _checked(request: Any, context: CallContext) -> Any:
    method = context.bound
    if not method.implemented:
        return request
    if method.client_streaming:
        return _CheckedRequests(request)
    check(request)
    return request


class _CheckedRequests:
    def __init__(self, requests: AsyncIterator[Message]) -> None:
        self._next = requests.__anext__

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        message = await self._next()
        check(message)
        return message


def _refusal(error: Exception) -> InvalidArgumentError | None:
    from protovalidate import EvaluationError, ValidationError

    if isinstance(error, ValidationError):
        violations = [_violation(violation.proto) for violation in error.violations]
        return InvalidArgumentError(_sentence(violations), violations)
    if isinstance(error, EvaluationError):
        # A rule that cannot be worked out for this input is broken by it, as far as the caller can tell.
        return InvalidArgumentError(f"the request cannot be validated: {error}")
    return None


def _violation(violation: Any) -> FieldViolation:
    return FieldViolation(_path(violation.field), violation.rule_id, violation.message or violation.rule_id)


def _path(field: Any) -> str:
    """`spec.tasks[0].labels["key"]`, as the .proto spells the names."""
    return ".".join(_element(element) for element in field.elements) if field else ""


def _element(element: Any) -> str:
    subscript = element.subscript
    if subscript is None:
        return element.field_name
    key = json.dumps(subscript.value, ensure_ascii=False)
    return f"{element.field_name}[{key}]"


def _sentence(violations: list[FieldViolation]) -> str:
    """The violations in one line, the first few of many."""
    shown = "; ".join(f"{v.field}: {v.message}" if v.field else v.message for v in violations[:5])
    more = len(violations) - 5
    return f"invalid request: {shown}" + (f"; and {more} more" if more > 0 else "")
