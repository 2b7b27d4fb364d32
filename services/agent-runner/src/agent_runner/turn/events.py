"""What happens in a turn, as typed values: the only thing that the agent loop tells the status.

An event's `task` is the tool_call_id of the `task` call that the sub-agent works for, and empty for the main agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_runner.turn.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Some text of an answer that the model is still giving, or of what it thinks before it does.

    `draft` names that answer until it is finished.
    """

    draft: str
    text: str
    thinking: bool = False
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaid:
    """What was said under `draft` does not count: the model broke off, and another one is asked."""

    draft: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """A tool call as the model asked for it."""

    id: str
    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A person said something while the agent ran, and the model is asked with it."""

    message_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The model finished an answer, which replaces what was said under `draft`.

    `model` is `provider:model` of who gave it, and `usage` what it took; empty and None when that is not known.
    """

    draft: str
    message_id: str
    text: str
    requests: tuple[ToolRequest, ...] = ()
    task: str = ""
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A sub-agent has been told of up to where it is: no call that it asked for and that counts is still open."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """A tool runs."""

    request: ToolRequest
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFinished:
    """A tool gave a result, or failed with one."""

    request: ToolRequest
    text: str
    failed: bool = False
    skipped: bool = False
    """Whether the call was not made: a person or a policy did not want it."""
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked:
    """A call waits for a person; `expires_at` is in seconds since the epoch."""

    request: ToolRequest
    reason: str
    expires_at: float | None = None
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """One line of the plan."""

    content: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The agent wrote its plan anew."""

    todos: tuple[Todo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """Something the person should know; a notice with the same key replaces the one before."""

    key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """So much has been used up by the execution, and by its session with it."""

    execution: Usage
    session: Usage


Event = (
    Used | Said | Unsaid | Heard | Answered | Resumed | ApprovalAsked | ToolStarted | ToolFinished | Planned | Noticed
)
Observer = Callable[[Event], None]
"""Takes events in the order in which they happened; must return at once and never raise."""
