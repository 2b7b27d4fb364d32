"""What people say to an agent while it runs, until the model has seen it.

The server keeps it, and tells what is new with its answer to every report. It becomes part of the thread together with
the model's answer to it, under its own id: so it is there once, whenever a worker is killed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage

from agent_runner.models.marks import SENT

Message = Any
"""A protobuf message of the contract's descriptor pool; its fields are read by name."""


class Inbox:
    """The messages of one execution that the model has not seen; keeps `taken_messages` of its status."""

    def __init__(self, status: Message) -> None:
        """Begin with what the server has; those that were taken are left out of the status: they are the server's."""
        self._status = status
        self._known: set[str] = set()
        self._waiting: dict[str, HumanMessage] = {}
        self.offer(status.sent_messages[status.taken_messages :])
        status.ClearField("sent_messages")

    def offer(self, sent: Iterable[Message]) -> None:
        """Take in what the server has."""
        for each in sent:
            if each.id not in self._known:
                self._known.add(each.id)
                self._waiting[each.id] = HumanMessage(each.text, id=each.id, additional_kwargs={SENT: True})

    def unseen(self, thread: Iterable[AnyMessage]) -> list[HumanMessage]:
        """What is not in the thread yet, in order."""
        for message in thread:
            if message.id and self._waiting.pop(message.id, None) is not None:
                self._status.taken_messages += 1
        return list(self._waiting.values())
