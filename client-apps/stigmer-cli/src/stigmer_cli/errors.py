"""What can go wrong for the person at the prompt, each with its exit code and its next step.

    CliError                    1   anything that ended the command
    ├── InvalidInputError       2   a file, an option or an input that cannot be used; holds every problem found
    ├── NotFoundError           3   the thing named is not there
    ├── ConflictError           4   something else is in the way
    └── UnavailableError        5   a part of the system that is needed does not answer

Two more ends have no exception: 1 for a run that failed, 130 for a command that was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

RUN_FAILED = 1
INTERRUPTED = 130


class CliError(Exception):
    """Ends the command. `str()` says what is wrong, `hint` what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InvalidInputError(CliError):
    """What the user gave cannot be used. `problems` are all of them, one line each."""

    exit_code = 2

    def __init__(self, message: str, *, problems: Sequence[object] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class NotFoundError(CliError):
    """What the user named is not there."""

    exit_code = 3


class ConflictError(CliError):
    """What the user asked for collides with something that is there."""

    exit_code = 4


class UnavailableError(CliError):
    """A part that is needed did not start or does not answer."""

    exit_code = 5
