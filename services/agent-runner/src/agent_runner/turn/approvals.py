"""Which tool calls a person must allow, and what becomes of a call on which was decided.

Knows neither protobuf nor LangChain: policies come from the agent's definition, decisions from its execution.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, TypedDict

ASK_PERSON = "ask_person"
"""The tool with which an agent asks people a question: it always waits, and its result is the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a tool comes from that is an MCP server's: the server's name, and what the server calls the tool."""

    server: str
    tool: str


class Rule(StrEnum):
    """What becomes of a call that a policy fits."""

    REQUIRE = "REQUIRE"
    ALLOW = "ALLOW"
    DENY = "DENY"


class Action(StrEnum):
    """What was decided on a call."""

    APPROVE = "APPROVE"
    SKIP = "SKIP"
    REJECT = "REJECT"
    FAIL = "FAIL"
    """Nobody decided in time, and the execution fails for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """Decides about the calls that it fits.

    Attributes:
        tool: Glob of tools' names; of MCP servers' tools, also as the server calls them.
        server: Glob of MCP servers' names; empty fits tools of any origin.
        arguments: Globs of arguments by name; an argument that is missing fits none.
        rule: What becomes of a call.
        expires_after: Seconds that a call waits; 0 is for ever.
        on_expiry: What is decided on a call that waited so long.
        reason: Why, for the person who decides.
    """

    tool: str
    server: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    rule: Rule = Rule.REQUIRE
    expires_after: int = 0
    on_expiry: Action = Action.REJECT
    reason: str = ""

    def fits(self, tool: str, origin: Origin | None, args: Mapping[str, Any]) -> bool:
        """Whether the policy is about a call of `tool`, which comes from `origin`, with these arguments."""
        server, bare = (origin.server, origin.tool) if origin is not None else ("", tool)
        if not (fnmatchcase(tool, self.tool) or fnmatchcase(bare, self.tool)):
            return False
        if self.server and not fnmatchcase(server, self.server):
            return False
        return all(name in args and fnmatchcase(_text(args[name]), glob) for name, glob in self.arguments.items())


_QUESTION = ApprovalPolicy(tool=ASK_PERSON, reason="the agent asks a question: the comment is its answer")


def judge(
    policies: tuple[ApprovalPolicy, ...], tool: str, origin: Origin | None, args: Mapping[str, Any]
) -> ApprovalPolicy | None:
    """The first policy that fits a call; None: it is made. A question always waits for its answer."""
    found = next((each for each in policies if each.fits(tool, origin, args)), None)
    if tool == ASK_PERSON and (found is None or found.rule is Rule.ALLOW):
        return _QUESTION
    return found


class Question(TypedDict):
    """What an interrupted step of the graph carries."""

    tool_call_id: str
    on_expiry: str


class Decision(TypedDict):
    """What the interrupted step goes on with; kept in the checkpoint, hence plain values."""

    action: str
    comment: str
    arguments: dict[str, Any] | None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
