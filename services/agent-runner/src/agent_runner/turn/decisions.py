"""What people have decided on the calls that a turn waits for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from langgraph.types import Command
from stigmer_runner.values import read_struct

from agent_runner.resources import Message, Resources
from agent_runner.status.builder import StatusBuilder
from agent_runner.turn.approvals import Action, Decision, Question

_ACTIONS = {1: Action.APPROVE, 2: Action.SKIP, 3: Action.REJECT}
"""ApprovalAction of the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A call that waits.

    Attributes:
        interrupt: Id of the graph's interrupt, by which it is resumed.
        call: The tool_call_id.
        on_expiry: What is decided when nobody does.
    """

    interrupt: str
    call: str
    on_expiry: str


def waiting_calls(state: Any) -> tuple[Waiting, ...]:
    """The calls that a graph's state waits for, sub-agents' ones included."""
    found: list[Waiting] = []
    for each in state.interrupts:
        question = cast("Question", each.value)
        found.append(Waiting(interrupt=each.id, call=question["tool_call_id"], on_expiry=question["on_expiry"]))
    return tuple(found)


class Decisions:
    """Looks decisions up in one execution, and takes those that nobody took in time.

    Args:
        resources: The server.
        execution: Id of the execution.
        builder: Its status.
        clock: Seconds since the epoch.
    """

    def __init__(self, resources: Resources, execution: str, builder: StatusBuilder) -> None:
        self._resources = resources
        self._execution = execution
        self._builder = builder

    async def resume(self, waiting: tuple[Waiting, ...]) -> Command[Any] | None:
        """How the graph goes on, or None while nothing was decided on any of the calls.

        Raises:
            ExecutionEndedError: The execution is gone or over.
        """
        approvals = await self._approvals()
        late = [each for each in waiting if _is_late(approvals.get(each.call))]
        if late:
            for each in late:
                self._builder.expire(each.call, _recorded(each.on_expiry))
            await self._resources.report(self._execution, self._builder.status)
            # Who decided in the same moment comes first: the server keeps one decision.
            approvals = await self._approvals()
        decided = {
            each.interrupt: _decision(approvals[each.call], each)
            for each in waiting
            if each.call in approvals and approvals[each.call].decision
        }
        return Command(resume=decided) if decided else None

    async def _approvals(self) -> Mapping[str, Message]:
        execution = await self._resources.execution(self._execution)
        approvals: Mapping[str, Message] = execution.status.approvals
        for call, approval in approvals.items():
            self._builder.status.approvals[call].CopyFrom(approval)
        return approvals


def next_expiry(waiting: tuple[Waiting, ...], approvals: Mapping[str, Message]) -> float:
    """When the first of the calls stops waiting, in seconds since the epoch; 0: never."""
    times = [_seconds(approvals[each.call].expires_at) for each in waiting if each.call in approvals]
    return min((each for each in times if each), default=0.0)


def _decision(approval: Message, waiting: Waiting) -> Decision:
    action = _ACTIONS[approval.decision]
    if approval.decided_by == "expiry":
        action = Action(waiting.on_expiry)
    changed = read_struct(approval.arguments) if approval.HasField("arguments") else None
    return Decision(action=action.value, comment=approval.comment, arguments=changed)


def _recorded(on_expiry: str) -> str:
    """The contract's word for what is decided on a call that nobody decided on; failing refuses the call, too."""
    return Action.APPROVE if on_expiry == Action.APPROVE else Action.REJECT


def _is_late(approval: Message | None) -> bool:
    if approval is None or approval.decision:
        return False
    expires = _seconds(approval.expires_at)
    return bool(expires) and expires <= time.time()


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp() if rfc3339 else 0.0
