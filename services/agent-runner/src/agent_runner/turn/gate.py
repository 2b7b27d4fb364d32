"""Between the model's wish to call a tool and the call: policies, and people's decisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph.types import interrupt

from agent_runner.errors import ApprovalExpiredError
from agent_runner.turn.approvals import ASK_PERSON, Action, ApprovalPolicy, Decision, Origin, Question, Rule, judge
from agent_runner.turn.events import ApprovalAsked, Observer, ToolRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model gets in place of a call."""

    text: str
    failed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Lets calls pass, or not.

    Attributes:
        policies: The agent's policies, the first that fits counts.
        observe: Is told of calls that wait.
        origins: Where tools of MCP servers come from, by the tool's name.
        clock: Seconds since the epoch.
    """

    policies: tuple[ApprovalPolicy, ...]
    observe: Observer
    origins: Mapping[str, Origin] = field(default_factory=dict[str, Origin])
    clock: Callable[[], float] = time.time

    def admit(self, call: ToolRequest, *, task: str) -> ToolRequest | Answer:
        """The call to make, whose arguments a person may have changed, or what the model is told instead.

        A call that must wait interrupts the graph's step here, and comes back here once it was decided on.

        Raises:
            ApprovalExpiredError: Nobody decided in time, and the policy wants the run to fail for it.
        """
        policy = judge(self.policies, call.name, self.origins.get(call.name), call.args)
        if policy is None or policy.rule is Rule.ALLOW:
            return call
        if policy.rule is Rule.DENY:
            reason = f": {policy.reason}" if policy.reason else ""
            return Answer(text=f"This agent may not call {call.name!r} with these arguments{reason}.")
        expires = self.clock() + policy.expires_after if policy.expires_after else None
        self.observe(ApprovalAsked(request=call, reason=_reason(policy, call), expires_at=expires, task=task))
        decision: Decision = interrupt(Question(tool_call_id=call.id, on_expiry=policy.on_expiry.value))
        return _decided(call, decision)


def _reason(policy: ApprovalPolicy, call: ToolRequest) -> str:
    return policy.reason or f"calls of {call.name} need a person's approval"


def _decided(call: ToolRequest, decision: Decision) -> ToolRequest | Answer:
    action, comment = Action(decision["action"]), decision["comment"]
    said = f" They said: {comment}" if comment else ""
    match action:
        case Action.APPROVE if call.name == ASK_PERSON:
            return Answer(text=comment or "(no answer)", failed=False)
        case Action.APPROVE:
            changed: Any = decision["arguments"]
            return call if changed is None else ToolRequest(id=call.id, name=call.name, args=changed)
        case Action.SKIP:
            return Answer(text=f"A person chose to go on without this call of {call.name!r}.{said}")
        case Action.REJECT:
            return Answer(text=f"A person refused this call of {call.name!r}; do not make it again as it is.{said}")
        case Action.FAIL:
            raise ApprovalExpiredError(f"nobody decided in time on the call of {call.name}")
