"""A thread's messages, as what they tell of a turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from agent_runner.models.marks import SENT, is_marked
from agent_runner.turn.answers import ANSWER_TOOL
from agent_runner.turn.events import Answered, Event, Heard, Todo, ToolFinished, ToolRequest
from agent_runner.turn.usage import noted


def events_of(messages: Sequence[AnyMessage], *, task: str = "") -> Iterator[Event]:
    """What has happened, for a status that may have missed some of it; `task` is the sub-agent's whose thread it is."""
    requests = {request.id: request for message in messages for request in tool_requests(message)}
    for message in messages:
        if is_marked(message, SENT):
            yield Heard(message_id=message.id or "", text=message.text)
        elif isinstance(message, AIMessage) and message.id:
            yield answered(message, draft=message.id, task=task)
        elif isinstance(message, ToolMessage) and (request := requests.get(message.tool_call_id)) is not None:
            yield ToolFinished(request=request, text=message.text, failed=message.status == "error", task=task)


def answered(message: AIMessage, *, draft: str, task: str) -> Answered:
    """An answer that is finished; `draft` names what was told of it before."""
    model, usage = noted(message)
    return Answered(
        draft=draft,
        message_id=message.id or draft,
        text=message.text,
        requests=tool_requests(message),
        task=task,
        model=model,
        usage=usage,
    )


def tool_requests(message: AnyMessage) -> tuple[ToolRequest, ...]:
    """The tool calls that an answer asks for; a structured answer is no call, though models give it as one."""
    if not isinstance(message, AIMessage):
        return ()
    return tuple(tool_request(call) for call in message.tool_calls if call["name"] != ANSWER_TOOL)


def tool_request(call: Any) -> ToolRequest:
    """A tool call of LangChain as a value of ours."""
    return ToolRequest(id=call["id"] or "", name=call["name"], args=call["args"])


def last_plan(messages: Sequence[AnyMessage]) -> list[dict[str, Any]]:
    """The plan as it was after these messages, as LangChain's middleware keeps it."""
    done = {each.tool_call_id for each in messages if isinstance(each, ToolMessage) and each.status != "error"}
    for message in reversed(messages):
        for request in reversed(tool_requests(message)):
            if request.name == "write_todos" and request.id in done:
                return [dict(item) for item in request.args.get("todos", ())]
    return []


def read_todos(items: Iterable[Mapping[str, Any]]) -> tuple[Todo, ...]:
    """The plan as LangChain's middleware keeps it."""
    return tuple(Todo(content=str(item["content"]), status=str(item["status"])) for item in items)
