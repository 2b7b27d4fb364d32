"""Runs of both kinds, of workflows and of agents, as far as they are alike: how each is read and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from stigmer_protos.descriptors import Kind

from stigmer_cli import references
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.resources import Message
from stigmer_cli.runs.agent import read_agent_run
from stigmer_cli.runs.conversation import ConversationView
from stigmer_cli.runs.execution import read_execution
from stigmer_cli.runs.view import RunView


class Run(Protocol):
    """A run at one moment."""

    @property
    def id(self) -> str:
        """The run's id."""
        ...

    @property
    def phase(self) -> str:
        """Its phase, such as COMPLETED."""
        ...

    @property
    def error(self) -> dict[str, Any] | None:
        """Why it failed, with a `message` for people."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        ...

    @property
    def seconds(self) -> float | None:
        """How long it took, None while it is not over."""
        ...

    @property
    def summary(self) -> str:
        """What else is to be told of it in the end; "" for nothing."""
        ...

    @property
    def printed(self) -> str:
        """What the command prints as its result."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        ...


class View(Protocol):
    """Shows a run on standard error."""

    @property
    def showed_answer(self) -> bool:
        """Whether the result can be read on standard error already."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Leave the terminal to somebody else meanwhile."""
        ...

    def update(self, run: Any, /) -> None:
        """Show what is new."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How runs of one kind are read and shown."""

    read: Callable[[Message], Run]
    view: Callable[[bool], AbstractContextManager[View]]


_SHAPES: Mapping[str, Shape] = {
    "workflow_execution": Shape(read=read_execution, view=lambda enabled: RunView(enabled=enabled)),
    "agent_execution": Shape(read=read_agent_run, view=lambda enabled: ConversationView(enabled=enabled)),
}


def kind_of_run(identifier: str) -> Kind:
    """Return the kind of the run that has an id.

    Raises:
        InvalidInputError: It is no id of a run.
    """
    kind = references.kind_of_id(identifier)
    if kind is None or kind.enum_name not in _SHAPES:
        msg = f"{identifier!r} is not the id of a run"
        raise InvalidInputError(msg, hint="`stigmer get runs` lists them")
    return kind


def shape_of(identifier: str) -> Shape:
    """Return how a run is read and shown. Raises: InvalidInputError."""
    return _SHAPES[kind_of_run(identifier).enum_name]
