"""Events in, the contract's AgentExecutionStatus out.

Keyed throughout: a message by its id, a tool call by the model's tool_call_id, a sub-agent by its task's. So an event
that is told twice, as a resumed turn does, changes nothing. Every string that goes in has the execution's secrets
taken out first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from stigmer_runner.files import KeptFile
from stigmer_runner.redaction import Redactor
from stigmer_runner.values import fill_struct, fill_value, shallow

from agent_runner.status.components import component_group, component_type
from agent_runner.status.drafts import LONGEST, Drafts
from agent_runner.turn.events import (
    Answered,
    ApprovalAsked,
    Event,
    Heard,
    Noticed,
    Planned,
    Resumed,
    Said,
    ToolFinished,
    ToolRequest,
    ToolStarted,
    Unsaid,
    Used,
)
from agent_runner.turn.usage import Usage

Message = Any
"""A protobuf message of the contract's descriptor pool; its fields are read by name."""

_KEY = "message_id"

_HUMAN, _AI, _SYSTEM = "MESSAGE_HUMAN", "MESSAGE_AI", "MESSAGE_SYSTEM"
_WAITING = "TOOL_CALL_WAITING_APPROVAL"
_UNFINISHED = ("TOOL_CALL_STATUS_UNSPECIFIED", "TOOL_CALL_PENDING", "TOOL_CALL_RUNNING", _WAITING)
_TODO = {
    "pending": "TODO_PENDING",
    "in_progress": "TODO_IN_PROGRESS",
    "completed": "TODO_COMPLETED",
    "cancelled": "TODO_CANCELLED",
}


def now() -> str:
    """The time as RFC 3339 in UTC, to the millisecond, with Z."""
    return rfc3339(time.time())


def rfc3339(seconds: float) -> str:
    """A time in seconds since the epoch as RFC 3339 in UTC, to the millisecond, with Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class StatusBuilder:
    """The status of one execution.

    Args:
        status: An AgentExecutionStatus to go on from: the one that the server has.
        redactor: Takes secrets out of every text.
        clock: Gives the time as RFC 3339.
    """

    def __init__(self, status: Message, redactor: Redactor, *, clock: Callable[[], str] = now) -> None:
        self.status = status
        self._redactor = redactor
        self._clock = clock
        self.drafts = Drafts(redactor)
        # Of sub-agents: what each of their answers took, so that one that is told twice counts once.
        self._used: dict[str, dict[str, Usage]] = {}
        self._messages: dict[str, Message] = {_key(message): message for message in status.messages if _key(message)}
        # A call stands in the flat list and in the message that asked for it; both are kept the same.
        self._calls: dict[str, list[Message]] = {}
        for call in (*status.tool_calls, *(call for message in status.messages for call in message.tool_calls)):
            self._calls.setdefault(call.id, []).append(call)

    @property
    def call_ids(self) -> set[str]:
        """Every tool_call_id in the status."""
        return set(self._calls)

    def start(self) -> None:
        """The execution is in progress, maybe again; its first start is kept."""
        self.status.completed_at = ""
        self.status.phase = "EXECUTION_IN_PROGRESS"
        self.status.status_reason = ""
        self.status.started_at = self.status.started_at or self._clock()

    def wait(self) -> None:
        """The execution waits for people to decide on tool calls."""
        waiting = sorted({call.name for call in self.status.tool_calls if call.status in _numbers(call, (_WAITING,))})
        self.status.phase = "EXECUTION_WAITING_FOR_APPROVAL"
        self.status.status_reason = f"a person must decide on calls of {', '.join(waiting)}"

    def expire(self, call_id: str, action: str) -> None:
        """Nobody decided on a call in time."""
        approval = self.status.approvals[call_id]
        approval.decision = f"APPROVAL_ACTION_{action}"
        approval.decided_by, approval.decided_at = "expiry", self._clock()

    def answer(self, value: Any) -> None:
        """The answer, where it has a schema."""
        fill_value(self.status.output, self._redactor.value(value))

    def finish(self, phase: str, *, error: str = "") -> None:
        """The execution is over, and with it everything in it."""
        self._interrupt()
        self.status.phase = phase
        self.status.started_at = self.status.started_at or self._clock()
        self.status.completed_at = self._clock()
        if error:
            self.status.error = self._clean(error)
            self.notice(f"error:{phase}", error)

    def made(self, files: Iterable[KeptFile]) -> None:
        """Files that the agent has made or changed; a path that is told already is told anew."""
        told = {artifact.path: artifact for artifact in self.status.artifacts}
        for file in files:
            path = self._clean(file.path)
            artifact = told.get(path) or self.status.artifacts.add()
            artifact.path, artifact.bytes, artifact.sha256 = path, file.size, file.hash

    def said_by_person(self, message_id: str, text: str) -> None:
        """The person's message, which comes first."""
        self._message(message_id, _HUMAN).content = self._clean(text)

    def notice(self, key: str, text: str) -> None:
        """A system message; the same key replaces."""
        self._message(f"notice:{key}", _SYSTEM).content = self._clean(text)

    def keep_answers(self, message_ids: set[str]) -> None:
        """Drop what a killed attempt told and no checkpoint holds: answers not in `message_ids`, with their calls."""
        gone = [
            message
            for message in self.status.messages
            if message.type == _number(self.status, _AI) and _key(message) not in message_ids
        ]
        for message in gone:
            for call in message.tool_calls:
                self._calls.pop(call.id, None)
            self._messages.pop(_key(message), None)
            self.status.messages.remove(message)
        idle = [call for call in self.status.tool_calls if call.id not in self._calls]
        for call in idle:
            self.status.tool_calls.remove(call)
        self._reindex()

    def observe(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case Said():
                self._said(event)
            case Heard():
                self.said_by_person(event.message_id, event.text)
            case Unsaid():
                self._unsaid(event)
            case Answered():
                self._answered(event)
            case Used():
                _fill_usage(self.status.usage, event.execution)
                _fill_usage(self.status.session_usage, event.session)
            case Resumed():
                self._resumed(event)
            case ApprovalAsked():
                self._approval_asked(event)
            case ToolStarted():
                self._tool_started(event)
            case ToolFinished():
                self._tool_finished(event)
            case Planned():
                self._planned(event)
            case Noticed():
                self.notice(event.key, event.text)

    def _said(self, event: Said) -> None:
        key = _thought(event.draft) if event.thinking else event.draft
        # A sub-agent's words are its own: the person gets its result. Nor is thinking part of the conversation.
        message = None if event.task or event.thinking else self._message(event.draft, _AI)
        draft = self.drafts.find(key)
        if draft is None or draft.finished:
            position = -1 if message is None else self._position(message)
            draft = self.drafts.begin(key, position=position, task=event.task, thinking=event.thinking)
        draft.add(event.text)
        self.drafts.note(draft)
        if message is not None:
            message.content = draft.text

    def _unsaid(self, event: Unsaid) -> None:
        for key in (event.draft, _thought(event.draft)):
            self.drafts.unsay(key)
        if (message := self._messages.get(event.draft)) is not None:
            message.content = ""

    def _finish_drafts(self, event: Answered) -> None:
        for key in (event.draft, _thought(event.draft)):
            draft = self.drafts.find(key)
            if draft is not None and not draft.finished:
                draft.finish()
                if not draft.thinking:
                    draft.become(self._redactor.text(event.text))
                self.drafts.note(draft)

    def _answered(self, event: Answered) -> None:
        self._finish_drafts(event)
        if not event.task:
            message = self._messages.pop(event.draft, None)
            if message is not None:
                self._messages[event.message_id] = message
                fill_struct(message.metadata, {_KEY: event.message_id})
            else:
                message = self._message(event.message_id, _AI)
            message.content = self._clean(event.text)
            for request in event.requests:
                if all(call.id != request.id for call in message.tool_calls):
                    self._add_call(message.tool_calls, request, event.task)
            if event.usage is not None:
                told = {"model": event.model, "usage": _used(event.usage)}
                fill_struct(message.metadata, told)
        elif event.usage is not None:
            self._used_by_sub_agent(event, event.usage)
        for request in event.requests:
            if all(call.id != request.id for call in self.status.tool_calls):
                self._add_call(self.status.tool_calls, request, event.task)

    def _used_by_sub_agent(self, event: Answered, usage: Usage) -> None:
        calls = self._used.setdefault(event.task, {})
        calls[event.message_id] = usage
        for entry in self.status.sub_agent_executions:
            if entry.id == event.task:
                fill_struct(entry.metadata, {"model": event.model, "usage": _used(sum(calls.values(), Usage()))})

    def _resumed(self, event: Resumed) -> None:
        """Drop what a lost answer of a sub-agent had asked for: it is never called."""
        group = component_group(event.task)
        for call in list(self.status.tool_calls):
            if call.component_metadata.component_group == group and call.status in _numbers(call, _UNFINISHED):
                self.status.tool_calls.remove(call)
        self._reindex()

    def _approval_asked(self, event: ApprovalAsked) -> None:
        approval = self.status.approvals[event.request.id]
        if approval.decision:  # the step that asked runs again, to go on with what was decided
            return
        if not approval.requested_at:
            approval.requested_at, approval.reason = self._clock(), self._clean(event.reason)
            if event.expires_at is not None:
                approval.expires_at = rfc3339(event.expires_at)
        for call in self._calls_of(event.request, event.task):
            if not call.completed_at:
                call.status = _WAITING

    def _tool_started(self, event: ToolStarted) -> None:
        at = self._clock()
        for call in self._calls_of(event.request, event.task):
            if not call.completed_at:
                call.status = "TOOL_CALL_RUNNING"
                call.started_at = call.started_at or at
        if event.request.name == "task" and not event.task:
            self._sub_agent_started(event.request)

    def _tool_finished(self, event: ToolFinished) -> None:
        text, at = self._clean(event.text), self._clock()
        for call in self._calls_of(event.request, event.task):
            if call.completed_at and call.status not in _numbers(call, _UNFINISHED):
                continue
            call.status = _outcome(event)
            call.result, call.error = ("", text) if event.failed or event.skipped else (text, "")
            call.started_at = call.started_at or at
            call.completed_at = at
        if event.request.name == "task" and not event.task:
            self._sub_agent_finished(event, text, at)

    def _sub_agent_started(self, request: ToolRequest) -> None:
        entry = self._sub_agent(request)
        if not entry.completed_at:
            entry.status = "SUB_AGENT_IN_PROGRESS"
            entry.started_at = entry.started_at or self._clock()

    def _sub_agent_finished(self, event: ToolFinished, text: str, at: str) -> None:
        entry = self._sub_agent(event.request)
        if not entry.completed_at:
            entry.status = "SUB_AGENT_FAILED" if event.failed else "SUB_AGENT_COMPLETED"
            entry.output, entry.error = ("", text) if event.failed else (text, "")
            entry.started_at = entry.started_at or at
            entry.completed_at = at

    def _sub_agent(self, request: ToolRequest) -> Message:
        for entry in self.status.sub_agent_executions:
            if entry.id == request.id:
                return entry
        name, task = str(request.args.get("subagent_type", "")), str(request.args.get("description", ""))
        return self.status.sub_agent_executions.add(
            id=request.id, name=self._clean(name), input=self._clean(task), status="SUB_AGENT_PENDING"
        )

    def _planned(self, event: Planned) -> None:
        before = {item.content: item.created_at for item in self.status.todos.values()}
        kept = {key: (item.content, item.status) for key, item in self.status.todos.items()}
        at = self._clock()
        for key in list(self.status.todos):
            if key not in {_todo_key(number) for number in range(1, len(event.todos) + 1)}:
                del self.status.todos[key]
        for number, todo in enumerate(event.todos, start=1):
            item = self.status.todos[_todo_key(number)]
            item.id, item.content, item.status = (
                _todo_key(number),
                self._clean(todo.content),
                _TODO.get(todo.status, "TODO_PENDING"),
            )
            item.created_at = before.get(item.content) or at
            if kept.get(item.id) != (item.content, item.status):
                item.updated_at = at

    def _message(self, key: str, kind: str) -> Message:
        message = self._messages.get(key)
        if message is None:
            message = self.status.messages.add(type=kind, timestamp=self._clock())
            fill_struct(message.metadata, {_KEY: key})
            self._messages[key] = message
        return message

    def _position(self, message: Message) -> int:
        return next(index for index, each in enumerate(self.status.messages) if each is message)

    def _calls_of(self, request: ToolRequest, task: str) -> list[Message]:
        if request.id not in self._calls:
            self._add_call(self.status.tool_calls, request, task)
        return self._calls[request.id]

    def _add_call(self, calls: Any, request: ToolRequest, task: str) -> None:
        call = calls.add(id=request.id, name=request.name, status="TOOL_CALL_PENDING")
        fill_struct(call.args, self._clean_args(cast("dict[str, Any]", shallow(dict(request.args)))))
        call.component_metadata.component_type = component_type(request.name)
        call.component_metadata.component_group = component_group(task)
        self._calls.setdefault(request.id, []).append(call)

    def _interrupt(self) -> None:
        at = self._clock()
        for calls in self._calls.values():
            for call in calls:
                if call.status in _numbers(call, _UNFINISHED):
                    call.status, call.completed_at = "TOOL_CALL_INTERRUPTED", at
        for entry in self.status.sub_agent_executions:
            if not entry.completed_at:
                entry.status, entry.completed_at = "SUB_AGENT_CANCELLED", at

    def _reindex(self) -> None:
        """Take hold of the entries anew: removing one may have moved the others."""
        self._messages = {_key(message): message for message in self.status.messages}
        self._calls = {}
        for call in (
            *self.status.tool_calls,
            *(call for message in self.status.messages for call in message.tool_calls),
        ):
            self._calls.setdefault(call.id, []).append(call)

    def _clean(self, text: str) -> str:
        """`text` as a status can hold it: no secrets, no half characters, not too long."""
        text = self._redactor.text(text).encode("utf-8", "replace").decode()
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters, cut here)"

    def _clean_args(self, args: Mapping[str, Any]) -> dict[str, Any]:
        return {self._clean(str(key)): self._clean_value(value) for key, value in args.items()}

    def _clean_value(self, value: Any) -> Any:
        match value:
            case str():
                return self._clean(value)
            case dict():
                return self._clean_args(value)  # pyright: ignore[reportUnknownArgumentType] - JSON
            case list() | tuple():
                return [self._clean_value(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
            case None | bool() | int() | float():
                return self._redactor.value(value)
            case _:
                return self._clean(str(value))


_TOLD = ("model_calls", "input_tokens", "cached_tokens", "output_tokens", "cost_usd", "unpriced_calls")
"""What of a usage is in a status."""


def _used(usage: Usage) -> dict[str, Any]:
    return {name: getattr(usage, name) for name in _TOLD if getattr(usage, name)}


def _fill_usage(message: Message, usage: Usage) -> None:
    for name in _TOLD:
        setattr(message, name, getattr(usage, name))


def _outcome(event: ToolFinished) -> str:
    if event.skipped:
        return "TOOL_CALL_SKIPPED"
    return "TOOL_CALL_FAILED" if event.failed else "TOOL_CALL_COMPLETED"


def _key(message: Message) -> str:
    return message.metadata.fields[_KEY].string_value if _KEY in message.metadata.fields else ""


def _thought(draft: str) -> str:
    """The name of the thinking that goes with an answer."""
    return f"{draft}#thinking"


def _todo_key(number: int) -> str:
    """Positions as ids that sort as the plan is ordered: a map has no order of its own."""
    return f"{number:03d}"


def _number(status: Message, name: str) -> int:
    field = status.DESCRIPTOR.fields_by_name["messages"].message_type.fields_by_name["type"]
    return field.enum_type.values_by_name[name].number


def _numbers(call: Message, names: tuple[str, ...]) -> tuple[int, ...]:
    values = call.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_name
    return tuple(values[name].number for name in names)
