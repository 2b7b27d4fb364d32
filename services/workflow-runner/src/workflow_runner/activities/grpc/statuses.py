"""What a gRPC status means to a workflow: one of the specification's standard errors, with an HTTP status."""

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.rpc import error_details_pb2
from stigmer_grpc.errors import RpcError, StatusCode
from stigmer_grpc.status import from_wire

from workflow_runner.activities.calls import CallFailedError

ERRORS: Mapping[StatusCode, tuple[str, int]] = {
    StatusCode.CANCELLED: ("communication", 499),
    StatusCode.UNKNOWN: ("communication", 500),
    StatusCode.INVALID_ARGUMENT: ("communication", 400),
    StatusCode.DEADLINE_EXCEEDED: ("timeout", 408),
    StatusCode.NOT_FOUND: ("communication", 404),
    StatusCode.ALREADY_EXISTS: ("communication", 409),
    StatusCode.PERMISSION_DENIED: ("authorization", 403),
    StatusCode.RESOURCE_EXHAUSTED: ("communication", 429),
    StatusCode.FAILED_PRECONDITION: ("communication", 400),
    StatusCode.ABORTED: ("communication", 409),
    StatusCode.OUT_OF_RANGE: ("communication", 400),
    StatusCode.UNIMPLEMENTED: ("communication", 501),
    StatusCode.INTERNAL: ("communication", 500),
    StatusCode.UNAVAILABLE: ("communication", 503),
    StatusCode.DATA_LOSS: ("communication", 500),
    StatusCode.UNAUTHENTICATED: ("authentication", 401),
}
"""By code: the last word of the standard error's type, and the status it has."""

_EXCERPT = 1000


def failure(call: str, error: grpc.aio.AioRpcError) -> CallFailedError:
    """Return the error of a call that ended with a status; `call` says which one."""
    trailing: Any = error.trailing_metadata() or ()
    rpc = from_wire(error.code().value[0], error.details() or "", [(str(key), value) for key, value in trailing])
    name, status = ERRORS[rpc.code]
    said = f": {rpc.message[:_EXCERPT]}" if rpc.message else ""
    fields = "".join(f"; {line}" for line in _violations(rpc))
    return CallFailedError(name, f"{call} ended with {rpc.code.name}{said}{fields}", status=status)


def _violations(error: RpcError) -> Iterable[str]:
    for detail in error.details:
        if isinstance(detail, error_details_pb2.BadRequest):
            for violation in detail.field_violations[:20]:
                yield f"{violation.field}: {violation.description[:200]}"
