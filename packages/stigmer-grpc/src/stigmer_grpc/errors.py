"""The errors of this package: one class per gRPC status code, and what goes wrong before a call exists.

    Exception
    ├── RpcError                       how a call ended; `.code`, `.message`, `.details`
    │   ├── CancelledError             1   the caller gave up
    │   ├── UnknownError               2   the peer said no more than "an error"
    │   ├── InvalidArgumentError       3   the request is wrong, whatever the state; `.violations`
    │   ├── DeadlineExceededError      4   no answer in time
    │   ├── NotFoundError              5
    │   ├── AlreadyExistsError         6
    │   ├── PermissionDeniedError      7   known caller, not allowed
    │   ├── ResourceExhaustedError     8   a quota or a size limit
    │   ├── FailedPreconditionError    9   the state forbids it; retrying alone does not help
    │   ├── AbortedError              10   lost a race; start over from the read
    │   ├── OutOfRangeError           11
    │   ├── UnimplementedError        12
    │   ├── InternalError             13   a fault of the server; its cause is in the server's log
    │   ├── UnavailableError          14   no server, or one that is stopping; may be tried again
    │   ├── DataLossError             15
    │   └── UnauthenticatedError      16   caller not known
    └── ValueError
        ├── BindingError               handlers that do not fit the service
        └── CredentialsError           certificates or keys that cannot be used

Handlers raise them and clients get the same class back, details decoded. How they look on the wire is not
known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from google.rpc import error_details_pb2

REQUEST_ID = "x-request-id"
"""The metadata key that carries a call's request id, both ways."""


class StatusCode(IntEnum):
    """The status codes of gRPC, by their names and numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class BindingError(ValueError):
    """Handlers name a method the service does not have, or have the wrong shape for it."""


class CredentialsError(ValueError):
    """A certificate or a key cannot be read, or is not what it is given for."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One rule that one field of a request breaks."""

    field: str
    """Path of the field as the .proto spells it, such as `spec.tasks[0].name`; empty: the whole message."""
    rule_id: str
    """Stable name of the rule, such as `string.min_len`."""
    message: str
    """What the rule asks for, for people."""


class RpcError(Exception):
    """How a call ended when it did not end well. Raise one of its subclasses.

    Args:
        message: For the caller to read; no secrets, no internals.
        details: Messages of google.rpc (ErrorInfo, RetryInfo, …) or any other message the client knows.
    """

    code: ClassVar[StatusCode] = StatusCode.UNKNOWN

    def __init__(self, message: str = "", *, details: Iterable[Any] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details: tuple[Any, ...] = tuple(details)
        """Decoded google.rpc messages; one of an unknown type stays a google.protobuf.Any."""
        self.metadata: Mapping[str, str | bytes] = {}
        """Trailing metadata the client received with this error; empty on the server."""

    @property
    def request_id(self) -> str:
        """The id the server gave the call, "" if it gave none."""
        return str(self.metadata.get(REQUEST_ID, ""))


class CancelledError(RpcError):
    """The caller cancelled the call. Not `asyncio.CancelledError`, which is how a handler sees it."""

    code = StatusCode.CANCELLED


class UnknownError(RpcError):
    """The peer failed without saying how."""

    code = StatusCode.UNKNOWN


class InvalidArgumentError(RpcError):
    """The request is wrong by itself.

    Args:
        message: For the caller to read.
        violations: The fields at fault; sent as one google.rpc.BadRequest, ahead of `details`.
        details: Further detail messages.
    """

    code = StatusCode.INVALID_ARGUMENT

    def __init__(
        self, message: str = "", violations: Iterable[FieldViolation] = (), *, details: Iterable[Any] = ()
    ) -> None:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, reason=v.rule_id, description=v.message)
            for v in violations
        ]
        bad_request = (error_details_pb2.BadRequest(field_violations=fields),) if fields else ()
        super().__init__(message, details=(*bad_request, *details))

    @property
    def violations(self) -> tuple[FieldViolation, ...]:
        """The field violations of every BadRequest among the details."""
        return tuple(
            FieldViolation(violation.field, violation.reason, violation.description)
            for detail in self.details
            if isinstance(detail, error_details_pb2.BadRequest)
            for violation in detail.field_violations
        )


class DeadlineExceededError(RpcError):
    """The call did not end before its deadline; the server may still have done the work."""

    code = StatusCode.DEADLINE_EXCEEDED


class NotFoundError(RpcError):
    """The thing asked for does not exist, or the caller may not know that it does."""

    code = StatusCode.NOT_FOUND


class AlreadyExistsError(RpcError):
    """The thing to create exists."""

    code = StatusCode.ALREADY_EXISTS


class PermissionDeniedError(RpcError):
    """The caller is known and may not do this."""

    code = StatusCode.PERMISSION_DENIED


class ResourceExhaustedError(RpcError):
    """A quota is used up, or a message is larger than the limit."""

    code = StatusCode.RESOURCE_EXHAUSTED


class FailedPreconditionError(RpcError):
    """The state of the system forbids it until something else changes."""

    code = StatusCode.FAILED_PRECONDITION


class AbortedError(RpcError):
    """The call lost a race; read again and start over."""

    code = StatusCode.ABORTED


class OutOfRangeError(RpcError):
    """The request points past the end of what there is."""

    code = StatusCode.OUT_OF_RANGE


class UnimplementedError(RpcError):
    """The server does not have this method."""

    code = StatusCode.UNIMPLEMENTED


class InternalError(RpcError):
    """A fault of the server; the request id in the message finds the cause in its log."""

    code = StatusCode.INTERNAL


class UnavailableError(RpcError):
    """No server answers there, or it is stopping; may be tried again."""

    code = StatusCode.UNAVAILABLE


class DataLossError(RpcError):
    """Stored data is lost or damaged."""

    code = StatusCode.DATA_LOSS


class UnauthenticatedError(RpcError):
    """The caller did not say who they are, or not believably."""

    code = StatusCode.UNAUTHENTICATED


ERRORS: Mapping[StatusCode, type[RpcError]] = {
    error.code: error
    for error in (
        CancelledError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        OutOfRangeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
}
"""The class of each code but OK."""


def error_for(code: StatusCode, message: str, details: Iterable[Any] = ()) -> RpcError:
    """The error of `code`'s own class; OK has none and becomes an UnknownError."""
    return ERRORS.get(code, UnknownError)(message, details=details)
