"""What running a tool twice would do, and the record that keeps it from happening.

Before a tool with an effect runs, its call is written down, and its result after. When a killed worker's turn is taken
up again, a recorded result is used instead of a second run; a call without a result has an unknown outcome.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class Effect(Enum):
    """What a second run of a tool would do."""

    PURE = "pure"
    """Changes nothing but the agent's own state, which the checkpoint holds: not recorded."""
    REPEATABLE = "repeatable"
    """Has an effect, and running it twice has the same one: an unfinished call runs again."""
    ONCE = "once"
    """Has an effect that a second run would double: an unfinished call is not run again."""


BUILT_IN: Mapping[str, Effect] = dict.fromkeys(
    # `task` runs a sub-agent, whose own calls are recorded one by one.
    ("write_todos", "ls", "read_file", "write_file", "edit_file", "delete", "glob", "grep", "task"),
    Effect.PURE,
)
"""The tools that deepagents brings, on its state backend. Every other tool is ONCE unless it is declared otherwise."""

IN_WORKSPACE: Mapping[str, Effect] = {
    **dict.fromkeys(("write_file", "delete"), Effect.REPEATABLE),
    # An edit finds nothing to change when it is done again.
    "edit_file": Effect.ONCE,
}
"""Those of them that change files where files are kept outside of the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectKey:
    """Names one tool call of one thread, the same in every attempt.

    Attributes:
        thread: The session's thread.
        scope: The step of the graph that runs the call; keeps apart calls of providers that use an id twice.
        call_id: The model's tool_call_id.
    """

    thread: str
    scope: str
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A call that was begun before: `result` is what it gave, or None when nobody knows."""

    arguments: str
    result: bytes | None
    result_type: str


class EffectLedger(Protocol):
    """The record of effects."""

    async def begin(self, key: EffectKey, *, execution: str, name: str, arguments: str) -> Recorded | None:
        """Write down that a call starts, durably before this returns; None when it never did before.

        A call that was begun before is left as it is.

        Raises:
            SupersededError: Another attempt has taken the turn over.
        """
        ...

    async def finish(self, key: EffectKey, *, result_type: str, result: bytes) -> None:
        """Write down what the call gave, durably before this returns."""
        ...


def arguments_hash(args: Mapping[str, Any]) -> str:
    """SHA-256 of a call's arguments, the same for the same values in any order."""
    return hashlib.sha256(json.dumps(args, sort_keys=True, default=str).encode()).hexdigest()
