"""Errors of this library.

DslError
├── DocumentError            a document is wrong; carries every problem
│   ├── SourceError          its text is not YAML or JSON that can be read safely
│   └── InvalidDocumentError it is no valid workflow
├── DurationError            a value is no duration
├── MissingSecretError       a secret has no value to fill in
└── WorkflowError            a run met an error: the specification's problem details
    ├── ExpressionError      an expression failed, or took too long
    ├── SchemaError          data is not what its schema says
    └── SecretAccessError    an expression names a secret that the workflow does not declare
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from stigmer_dsl.model import ErrorFilter
from stigmer_dsl.problems import Problem

PREFIX = "https://serverlessworkflow.io/spec/1.0.0/errors/"
"""What the standard types start with, as this library writes them."""

_STANDARD_URI = re.compile(
    r"https?://(?:www\.)?(?:serverlessworkflow\.io|open-workflow-specification\.org)/spec/1\.\d+\.\d+/errors/([a-z-]+)/?"
)


class DslError(Exception):
    """Anything this library raises on purpose."""


class DocumentError(DslError):
    """A document is wrong. `problems` holds everything that was found, in the order of the document."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class SourceError(DocumentError):
    """The text cannot be read: no YAML, or YAML that this library refuses to build."""


class InvalidDocumentError(DocumentError):
    """The document is no valid workflow."""


class DurationError(DslError, ValueError):
    """A value is no duration."""


class MissingSecretError(DslError, LookupError):
    """A value refers to secrets that have no value; `names` says which."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(sorted(names))
        super().__init__("no value for " + ", ".join(self.names))

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[str, ...]]]:
        return type(self), (self.names,)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardError:
    """A standard error type: its URI, the status it has unless another fits better, its title."""

    type: str
    status: int
    title: str


STANDARD: Mapping[str, StandardError] = {
    name: StandardError(type=PREFIX + name, status=status, title=title)
    for name, status, title in (
        ("configuration", 400, "Configuration Error"),
        ("validation", 400, "Validation Error"),
        ("expression", 400, "Expression Error"),
        ("authentication", 401, "Authentication Error"),
        ("authorization", 403, "Authorization Error"),
        ("timeout", 408, "Timeout"),
        ("communication", 500, "Communication Error"),
        ("runtime", 500, "Runtime Error"),
    )
}
"""The standard error types of the specification, by their last word."""


def standard_name(type_: str) -> str | None:
    """The last word of a standard type under either of its hosts; None for any other type."""
    found = _STANDARD_URI.fullmatch(type_)
    return found[1] if found and found[1] in STANDARD else None


def same_type(a: str, b: str) -> bool:
    """Whether two types are one: equal, or the same standard type under its two hosts."""
    if a == b:
        return True
    name = standard_name(a)
    return name is not None and name == standard_name(b)


class WorkflowError(DslError):
    """An error of a run, as problem details (RFC 7807).

    `instance` is the JSON pointer of the task that raised it; empty until someone knows it. `retry_after` is how many
    seconds a peer asks to wait before another try, `retryAfter` in problem details.
    """

    def __init__(
        self,
        *,
        type: str,  # noqa: A002 - the name of the field
        status: int,
        title: str = "",
        detail: str = "",
        instance: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.type = type
        self.status = status
        self.title = title
        self.detail = detail
        self.instance = instance
        self.retry_after = retry_after
        super().__init__(str(self))

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.title or self.type, self.detail) if part)
        return f"{text} (at {self.instance})" if self.instance else text

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkflowError.from_dict, (self.to_dict(),)

    @classmethod
    def standard(cls, name: str, detail: str = "", *, status: int | None = None, instance: str = "") -> "WorkflowError":
        """An error of a standard type, such as `runtime`."""
        kind = STANDARD[name]
        return WorkflowError(
            type=kind.type, status=status or kind.status, title=kind.title, detail=detail, instance=instance
        )

    @classmethod
    def from_dict(cls, details: Mapping[str, Any]) -> "WorkflowError":
        """The error of problem details; what they leave out is a runtime error's."""
        fallback = STANDARD["runtime"]
        status = details.get("status")
        retry_after = details.get("retryAfter")
        return WorkflowError(
            type=str(details.get("type") or fallback.type),
            status=int(status) if isinstance(status, (int, float)) else fallback.status,
            title=str(details.get("title") or ""),
            detail=str(details.get("detail") or ""),
            instance=str(details.get("instance") or ""),
            retry_after=retry_after if isinstance(retry_after, (int, float)) and retry_after >= 0 else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The problem details; empty texts are left out."""
        parts = {"title": self.title, "detail": self.detail, "instance": self.instance}
        made = {"type": self.type, "status": self.status, **{key: text for key, text in parts.items() if text}}
        return made if self.retry_after is None else {**made, "retryAfter": self.retry_after}

    def at(self, instance: str) -> "WorkflowError":
        """This error with `instance`, unless it has one already."""
        return self if self.instance else WorkflowError.from_dict({**self.to_dict(), "instance": instance})


class ExpressionError(WorkflowError):
    """An expression failed.

    `expression` is its text, `reason` what went wrong, `on` the input it was evaluated on, shortened.
    """

    def __init__(self, expression: str, reason: str, *, on: str = "", instance: str = "") -> None:
        self.expression = expression
        self.reason = reason
        self.on = on
        kind = STANDARD["expression"]
        detail = f"${{ {expression} }}: {reason}" + (f"; on {on}" if on else "")
        super().__init__(type=kind.type, status=kind.status, title=kind.title, detail=detail, instance=instance)


class SchemaError(WorkflowError):
    """Data is not what its schema says; `violations` pairs each JSON pointer into the data with a message."""

    def __init__(self, what: str, violations: Sequence[tuple[str, str]], *, instance: str = "") -> None:
        self.violations = tuple(violations)
        kind = STANDARD["validation"]
        listed = "; ".join(f"{pointer or '/'}: {message}" for pointer, message in self.violations)
        detail = f"{what} does not match its schema: {listed}"
        super().__init__(type=kind.type, status=kind.status, title=kind.title, detail=detail, instance=instance)


class SecretAccessError(WorkflowError):
    """An expression names secrets that the workflow does not declare."""

    def __init__(self, names: Sequence[str], *, instance: str = "") -> None:
        self.names = tuple(sorted(names))
        kind = STANDARD["authorization"]
        detail = "the workflow does not declare " + ", ".join(f"secret {name!r}" for name in self.names)
        super().__init__(type=kind.type, status=kind.status, title=kind.title, detail=detail, instance=instance)


def matches(error: WorkflowError, expected: ErrorFilter | None) -> bool:
    """Whether an error passes a static filter: every field that the filter sets is equal."""
    if expected is None:
        return True
    if expected.type is not None and not same_type(error.type, expected.type):
        return False
    pairs = (
        (expected.status, error.status),
        (expected.instance, error.instance),
        (expected.title, error.title),
        (expected.detail, error.detail),
    )
    return all(wanted is None or wanted == found for wanted, found in pairs)
