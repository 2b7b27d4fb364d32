"""What the checkpoint holds of one execution's turn: where to go on, and what to tell of it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from agent_runner.models.marks import begins_turn
from agent_runner.turn.events import Event, Planned, Todo
from agent_runner.turn.thread import events_of, read_todos, tool_requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The messages of a thread since one execution's message.

    Attributes:
        messages: Those messages, without the person's own; empty when the execution has not begun.
        begun: Whether the person's message is in the thread.
        waiting: Whether the graph has steps left to run.
        todos: The plan.
        passed: Whether the person has said something else since.
        earlier_calls: The tool_call_ids of the thread's earlier executions.
    """

    messages: tuple[AnyMessage, ...]
    begun: bool
    waiting: bool
    todos: tuple[Todo, ...]
    passed: bool
    earlier_calls: frozenset[str]

    @property
    def answers(self) -> set[str]:
        """The ids of the model's answers."""
        return {message.id for message in self.messages if isinstance(message, AIMessage) and message.id}

    @property
    def finished(self) -> bool:
        """Whether the turn is over: the agent has nothing left to do."""
        return self.begun and not self.waiting

    def events(self) -> Iterator[Event]:
        """What has happened so far, for a status that may have missed some of it."""
        yield from events_of(self.messages)
        requests = (request for message in self.messages for request in tool_requests(message))
        if self.begun and self.todos and any(request.name == "write_todos" for request in requests):
            yield Planned(todos=self.todos)


def read_conversation(values: Mapping[str, Any], *, waiting: bool, message_id: str) -> Conversation:
    """The conversation of the execution whose message has the id `message_id`, from a graph's state."""
    messages: list[AnyMessage] = list(values.get("messages", ()))
    start = next(
        (
            index
            for index, message in enumerate(messages)
            if isinstance(message, HumanMessage) and message.id == message_id
        ),
        None,
    )
    earlier = messages if start is None else messages[:start]
    since = () if start is None else tuple(messages[start + 1 :])
    return Conversation(
        messages=since,
        begun=start is not None,
        waiting=waiting,
        passed=any(map(begins_turn, since)),
        todos=read_todos(values.get("todos") or ()),
        earlier_calls=frozenset(
            call["id"] or "" for message in earlier if isinstance(message, AIMessage) for call in message.tool_calls
        ),
    )
