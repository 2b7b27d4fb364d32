"""An agent execution as the person who started it sees it: what was said, and which tools were called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stigmer_cli import console
from stigmer_cli.messages import to_plain, value_to_plain
from stigmer_cli.resources import Message
from stigmer_cli.runs.phases import OVER, seconds_between

_SHOWN = 5
"""Files that are told by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message of the conversation. `by` is HUMAN, AI, SYSTEM, TOOL or THINKING."""

    by: str
    text: str
    calls: tuple[str, ...] = ()
    """Ids of the tool calls that it asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    status: str
    """PENDING, RUNNING, WAITING_APPROVAL, COMPLETED, FAILED, SKIPPED or INTERRUPTED."""
    result: str
    error: str
    agent: str
    """Name of the sub-agent whose call it is, "" of the agent itself."""
    task: str
    """Id of the call that gave the sub-agent its work."""
    started_at: str
    completed_at: str

    @property
    def seconds(self) -> float | None:
        """How long it took, None while it is not over."""
        return seconds_between(self.started_at, self.completed_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """A run of an agent at one moment."""

    id: str
    session: str
    phase: str
    reason: str
    """Why it is in its phase."""
    error: dict[str, Any] | None
    started_at: str
    completed_at: str
    messages: tuple[Said, ...]
    calls: tuple[Call, ...]
    why_waiting: Mapping[str, str]
    """Why a call waits for a person, by its id."""
    answer: Any = None
    """The answer, where it has a schema."""
    artifacts: tuple[tuple[str, int, str], ...] = ()
    """Files that it has made or changed: path, bytes, SHA-256 in hex."""
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What it has used up, in the contract's words; empty when nothing was counted."""
    session_usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What its session has used up, with it."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.phase in OVER

    @property
    def seconds(self) -> float | None:
        """How long it took, None while it is not over."""
        return seconds_between(self.started_at, self.completed_at)

    @property
    def output(self) -> Any:
        """The agent's answer by its schema, else its last words."""
        if self.answer is not None:
            return self.answer
        return next((each.text for each in reversed(self.messages) if each.by == "AI" and each.text), "")

    @property
    def printed(self) -> str:
        """What the command prints as its result."""
        return self.output if isinstance(self.output, str) else console.to_json(self.output)

    @property
    def summary(self) -> str:
        """What it has used up, in words; "" when nothing was counted."""
        return _in_words(self.usage)

    @property
    def session_summary(self) -> str:
        """The same of its session."""
        return _in_words(self.session_usage)

    @property
    def made(self) -> str:
        """Which files it has made or changed, in words; "" when there are none."""
        if not self.artifacts:
            return ""
        files = [f"{console.printable(path)} ({console.size(size)})" for path, size, _ in self.artifacts[:_SHOWN]]
        more = f" and {len(self.artifacts) - _SHOWN} more" if len(self.artifacts) > _SHOWN else ""
        return f"files: {', '.join(files)}{more}; `stigmer files get {self.id} --to DIR` gets them"

    @property
    def waiting(self) -> tuple[Call, ...]:
        """The calls on which people must decide."""
        return tuple(call for call in self.calls if call.status == "WAITING_APPROVAL")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "session_id": self.session or None,
            "phase": self.phase,
            "output": None if self.output == "" else self.output,
            "usage": dict(self.usage) or None,
            "session_usage": dict(self.session_usage) or None,
            "error": self.error,
            "started_at": self.started_at or None,
            "completed_at": self.completed_at or None,
            "messages": [{"by": each.by, "text": each.text} for each in self.messages],
            "tool_calls": [_call_to_dict(call) for call in self.calls],
            "artifacts": [{"path": path, "bytes": size, "sha256": sha256} for path, size, sha256 in self.artifacts],
        }


def _in_words(usage: Mapping[str, Any]) -> str:
    if not (calls := usage.get("model_calls")):
        return ""
    tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    parts = [f"{calls} model call{'s' if calls > 1 else ''}", f"{tokens:,} tokens"]
    if cost := usage.get("cost_usd"):
        parts.append(f"${cost:.4f}")
    return ", ".join(parts)


def _numbers(usage: Message) -> dict[str, Any]:
    """A usage with numbers as such: its JSON form has large ones as texts."""
    return {field.name: value for field, value in usage.ListFields()}


def _call_to_dict(call: Call) -> dict[str, Any]:
    return {
        "name": call.name,
        "arguments": dict(call.arguments),
        "status": call.status,
        "result": call.result or None,
        "error": call.error or None,
        "agent": call.agent or None,
        "started_at": call.started_at or None,
        "completed_at": call.completed_at or None,
        "id": call.id,
    }


def read_agent_run(message: Message) -> AgentRun:
    """Return what an AgentExecution says."""
    status = message.status
    plain = to_plain(status)
    agents = {each.id: each.name for each in status.sub_agent_executions}
    return AgentRun(
        id=message.metadata.id,
        session=message.spec.session_id,
        phase=plain.get("phase", "UNSPECIFIED").removeprefix("EXECUTION_").removeprefix("PHASE_"),
        reason=status.status_reason,
        error={"message": status.error} if status.error else None,
        started_at=status.started_at,
        completed_at=status.completed_at,
        messages=tuple(
            Said(
                by=each.get("type", "").removeprefix("MESSAGE_"),
                text=each.get("content", ""),
                calls=tuple(call["id"] for call in each.get("tool_calls", ())),
            )
            for each in plain.get("messages", ())
        ),
        calls=tuple(_read_call(call, plain, agents) for call, plain in _calls(status, plain)),
        answer=value_to_plain(status.output) if status.HasField("output") else None,
        artifacts=tuple((each.path, each.bytes, each.sha256) for each in status.artifacts),
        usage=_numbers(status.usage),
        session_usage=_numbers(status.session_usage),
        why_waiting={call: asked.reason for call, asked in status.approvals.items() if not asked.decision},
    )


def _calls(status: Message, plain: Mapping[str, Any]) -> list[tuple[Message, Mapping[str, Any]]]:
    return list(zip(status.tool_calls, plain.get("tool_calls", ()), strict=True))


def _read_call(call: Message, plain: Mapping[str, Any], agents: Mapping[str, str]) -> Call:
    _, _, task = call.component_metadata.component_group.partition("sub-agent-tools:")
    return Call(
        id=call.id,
        name=call.name,
        arguments=value_to_plain(call.args),
        status=plain.get("status", "UNSPECIFIED").removeprefix("TOOL_CALL_"),
        result=call.result,
        error=call.error,
        agent=agents.get(task, ""),
        task=task,
        started_at=call.started_at,
        completed_at=call.completed_at,
    )
