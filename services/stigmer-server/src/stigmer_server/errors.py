"""What can go wrong in a command or a query, in the server's own words.

    ServerError
    ├── InvalidError            the request is wrong: which field, which rule
    ├── MissingError            no such resource
    ├── TakenError              the slug or the id belongs to another resource
    ├── RefusedError            the state of the resource, or of what depends on it, forbids it
    ├── TooLargeError           the resource is larger than can be stored
    ├── LostUpdateError         somebody else changed the resource since the caller read it
    ├── DeniedError             the caller may not do this
    ├── UnprovenError           what the caller should prove itself with is missing, or not good
    ├── ExpiredError            a token points at what is no longer kept
    ├── StartupError            the server cannot start as it was told to
    │   └── SettingsError       one or more settings are wrong
    └── OperationError          an operation on the server's files cannot be done
        └── BusyError           somebody else is at them

`controllers.faults` maps each of them, and the store's errors, to a gRPC status: the only place that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One rule that a request breaks."""

    field: str
    """Path of the field, such as `metadata.slug`; empty for the request as a whole."""
    rule: str
    """A stable id of the rule."""
    message: str
    """For people: what is wrong and what would be right."""


class ServerError(Exception):
    """The root of every error that a command or query raises on purpose."""


class InvalidError(ServerError):
    """The request breaks rules; nothing was read or written on its behalf."""

    def __init__(self, message: str, violations: Sequence[Violation]) -> None:
        super().__init__(message)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, rule: str, message: str) -> InvalidError:
        """Return the error of one broken rule."""
        return cls(f"{field}: {message}" if field else message, [Violation(field=field, rule=rule, message=message)])


class MissingError(ServerError):
    """No resource answers to the id or reference."""

    @classmethod
    def of(cls, kind: str, reference: str) -> MissingError:
        """Return the error for one resource, named as the caller named it."""
        return cls(f"{kind} not found: {reference}")


class TakenError(ServerError):
    """Another resource already has the slug, or the id."""


class RefusedError(ServerError):
    """The request is right, but the present state forbids it."""


class TooLargeError(ServerError):
    """The resource is larger than can be stored and sent."""


class LostUpdateError(ServerError):
    """The resource is no longer the version that the caller based its change on."""


class DeniedError(ServerError):
    """The caller is known, and may not do this."""


class UnprovenError(ServerError):
    """What the caller should prove itself with is missing, forged or out of date."""


class ExpiredError(ServerError):
    """What comes next after a token is no longer kept; whoever follows has to start anew."""


class StartupError(ServerError):
    """The server cannot start: a port or a database is taken, or cannot be used."""


class SettingsError(StartupError):
    """Settings that cannot be used, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class OperationError(ServerError):
    """An operation on the server's files cannot be done as it was asked for; nothing was changed that it undoes."""


class BusyError(OperationError):
    """Another process is at the files that the operation needs for itself."""
