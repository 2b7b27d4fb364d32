"""Which error of the server, or of its store, has which status: the one table."""

from __future__ import annotations

from stigmer_grpc import (
    AbortedError,
    AlreadyExistsError,
    ErrorTable,
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from stigmer_sqlite import errors as store

from stigmer_server import errors
from stigmer_server.secrets import UnsealError


def _invalid(error: errors.InvalidError) -> InvalidArgumentError:
    violations = [FieldViolation(item.field, item.rule, item.message) for item in error.violations]
    return InvalidArgumentError(str(error), violations)


FAULTS: ErrorTable = {
    errors.InvalidError: _invalid,
    errors.MissingError: lambda error: NotFoundError(str(error)),
    errors.TakenError: lambda error: AlreadyExistsError(str(error)),
    errors.RefusedError: lambda error: FailedPreconditionError(str(error)),
    errors.TooLargeError: lambda error: ResourceExhaustedError(str(error)),
    errors.UnprovenError: lambda error: UnauthenticatedError(str(error)),
    errors.LostUpdateError: lambda error: AbortedError(str(error)),
    errors.DeniedError: lambda error: PermissionDeniedError(str(error)),
    errors.ExpiredError: lambda error: OutOfRangeError(str(error)),
    UnsealError: lambda error: FailedPreconditionError(str(error)),
    store.NotFoundError: lambda error: NotFoundError(str(error)),
    store.SlugTakenError: lambda error: AlreadyExistsError(str(error)),
    store.IdTakenError: lambda error: AlreadyExistsError(str(error)),
    store.ConflictError: lambda error: AbortedError(str(error)),
    store.CompactedError: lambda error: OutOfRangeError(str(error)),
    store.InvalidQueryError: lambda error: InvalidArgumentError(str(error)),
    store.InvalidRecordError: lambda error: InvalidArgumentError(str(error)),
    store.ClosedError: lambda _: UnavailableError("the server is stopping"),
    store.StoreUnavailableError: lambda error: UnavailableError(f"the database cannot be used: {error}"),
}
"""What is not here is a fault of the server: INTERNAL, with its cause in the log."""
