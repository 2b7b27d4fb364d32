"""How an error looks over HTTP: problem details (RFC 9457) with the gRPC code, and the HTTP status of each code."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from google.protobuf import json_format
from stigmer_grpc import FieldViolation, InvalidArgumentError, RpcError, StatusCode

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[StatusCode, int] = {
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}
"""As google.rpc.Code itself maps them."""

_RETRY_SECONDS = "1"


class HttpError(Exception):
    """A request that is refused before it is a call.

    Args:
        status: The HTTP status.
        code: The nearest gRPC code.
        message: For the caller: what is wrong and what would be right.
        violations: The fields at fault.
        headers: What the answer carries beside.
    """

    def __init__(
        self,
        status: int,
        code: StatusCode,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.violations = violations
        self.headers = dict(headers or {})


def as_http_error(error: RpcError) -> HttpError:
    """Return how the outcome of a call is told over HTTP."""
    headers: dict[str, str] = {}
    if error.code is StatusCode.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="stigmer"'
    if error.code is StatusCode.UNAVAILABLE:
        headers["retry-after"] = _RETRY_SECONDS
    violations = error.violations if isinstance(error, InvalidArgumentError) else ()
    return HttpError(STATUS[error.code], error.code, error.message, violations=violations, headers=headers)


def details_of(error: RpcError) -> list[dict[str, Any]]:
    """Return what an error carries beside its field violations, as proto-JSON with the name of each type."""
    found: list[dict[str, Any]] = []
    for detail in error.details:
        name = detail.DESCRIPTOR.full_name
        # An Any holds a type that nobody here knows; a BadRequest is told as violations.
        if name not in ("google.protobuf.Any", "google.rpc.BadRequest"):
            found.append({"@type": f"type.googleapis.com/{name}", **json_format.MessageToDict(detail)})
    return found


def problem(
    error: HttpError, *, instance: str = "", request_id: str = "", details: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the problem details of an error.

    Args:
        error: What went wrong.
        instance: Path of the request.
        request_id: What the log knows the request by.
        details: As `details_of` returns them.
    """
    name = error.code.name
    told: dict[str, Any] = {
        "type": f"/docs#{name.lower().replace('_', '-')}",
        "title": _phrase(error.status),
        "status": error.status,
        "detail": error.message,
        "code": name,
    }
    if instance:
        told["instance"] = instance
    if request_id:
        told["requestId"] = request_id
    if error.violations:
        told["violations"] = [
            {"field": item.field, "rule": item.rule_id, "message": item.message} for item in error.violations
        ]
    if details:
        told["details"] = details
    return told


def to_bytes(told: Mapping[str, Any]) -> bytes:
    """Return problem details as JSON text."""
    return orjson.dumps(told)


def _phrase(status: int) -> str:
    return "Client Closed Request" if status == STATUS[StatusCode.CANCELLED] else HTTPStatus(status).phrase
