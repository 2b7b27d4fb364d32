"""What agents are saying: held in memory for as long as somebody may want to hear it, and never stored.

A listener remembers from where on it has to be told each text, and nothing else; what it has not been told is read
from the text itself. So one that does not read costs no memory, and gets more at a time when it does.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from stigmer_protos import descriptors

from stigmer_server.messages import Message

_MOST_TEXTS, _MOST_CHARACTERS = 32, 256 * 1024
"""Of one execution that are kept; the oldest go first, and of a single text that is longer its beginning."""
_MOST_IDLE = 256
"""Executions that nobody listens to, and of which texts are kept."""
_ADMITTED_SECONDS = 1.0
"""How long a runner may go on to tell before it is looked again whether it may."""


@dataclass(slots=True, kw_only=True)
class _Text:
    """A text that is being given."""

    latest: Message
    """The delta that came last: it says where the text belongs, and whether it is finished."""
    first: int
    """How many characters come before what is known."""
    known: str

    @property
    def end(self) -> int:
        return self.first + len(self.known)

    def take(self, delta: Message) -> int:
        """Add a delta; gives the place from which on the text is new."""
        self.latest = delta
        if not self.first <= delta.offset <= self.end:
            self.first, self.known = delta.offset, delta.text
        else:
            self.known = self.known[: delta.offset - self.first] + delta.text
        if (surplus := len(self.known) - _MOST_CHARACTERS) > 0:
            self.first, self.known = self.first + surplus, self.known[surplus:]
        return int(delta.offset)

    def since(self, offset: int) -> Message:
        """What comes after so many characters, as far as it is known."""
        start = max(offset, self.first)
        told: Message = type(self.latest)()
        told.CopyFrom(self.latest)
        told.offset, told.text = start, self.known[start - self.first :]
        return told


class Listener:
    """One reader of what is said in one execution."""

    def __init__(self, texts: OrderedDict[str, _Text]) -> None:
        self._texts = texts
        self._due = {key: text.first for key, text in texts.items()}
        self._news = asyncio.Event()
        self.wake()

    def changed(self, key: str, offset: int) -> None:
        """Note that a text is another one from `offset` on."""
        self._due[key] = min(self._due.get(key, offset), offset)
        if len(self._due) > 2 * _MOST_TEXTS:
            # Of one that does not read: texts that are dropped are never told.
            self._due = {known: offset for known, offset in self._due.items() if known in self._texts}
        self.wake()

    def wake(self) -> None:
        """Let `heard` return."""
        self._news.set()

    async def heard(self) -> list[Message]:
        """Wait until there may be something new, and return it; it may be nothing."""
        await self._news.wait()
        self._news.clear()
        due, self._due = self._due, {}
        return [self._texts[key].since(offset) for key, offset in due.items() if key in self._texts]


@dataclass(slots=True)
class _Topic:
    texts: OrderedDict[str, _Text] = field(default_factory=OrderedDict[str, _Text])
    listeners: set[Listener] = field(default_factory=set[Listener])
    admitted: tuple[str, float] = ("", 0.0)
    """Who may tell, and until when that holds."""

    def take(self, delta: Message) -> None:
        text = self.texts.pop(delta.key, None)
        if text is None:
            text = _Text(latest=delta, first=delta.offset, known="")
        self.texts[delta.key] = text
        offset = text.take(delta)
        while len(self.texts) > 1 and (len(self.texts) > _MOST_TEXTS or self._size() > _MOST_CHARACTERS):
            self.texts.popitem(last=False)
        for listener in self.listeners:
            listener.changed(delta.key, offset)

    def _size(self) -> int:
        return sum(len(text.known) for text in self.texts.values())


class Live:
    """What the agents of this server are saying."""

    def __init__(self) -> None:
        self._topics: OrderedDict[str, _Topic] = OrderedDict()

    def is_admitted(self, id: str, caller: str) -> bool:
        """Whether the caller has been found to be allowed to tell of the execution a moment ago."""
        who, until = self._topics[id].admitted if id in self._topics else ("", 0.0)
        return who == caller and until > time.monotonic()

    def admit(self, id: str, caller: str) -> None:
        """Remember that the caller may tell of the execution."""
        self._topic(id).admitted = caller, time.monotonic() + _ADMITTED_SECONDS

    def tell(self, id: str, deltas: Iterable[Message]) -> None:
        """Tell all who listen to the execution, and who will, what is being said."""
        topic = self._topic(id)
        for delta in deltas:
            topic.take(delta)
        self._topics.move_to_end(id)
        if len(self._topics) > _MOST_IDLE:
            idle = [each for each, topic in self._topics.items() if not topic.listeners]
            for each in idle[: max(0, len(idle) - _MOST_IDLE)]:
                del self._topics[each]

    @contextmanager
    def listening(self, id: str) -> Generator[Listener]:
        """Register a reader of what is said in an execution, which begins with what is known."""
        topic = self._topic(id)
        listener = Listener(topic.texts)
        topic.listeners.add(listener)
        try:
            yield listener
        finally:
            topic.listeners.discard(listener)
            if not topic.listeners and not topic.texts:
                self._topics.pop(id, None)

    def forget(self, id: str) -> None:
        """Drop what was said: the execution has ended, and holds it."""
        topic = self._topics.get(id)
        if topic is not None:
            topic.texts.clear()
            if not topic.listeners:
                del self._topics[id]

    def _topic(self, id: str) -> _Topic:
        return self._topics.setdefault(id, _Topic())


def news(delta: Message) -> bytes:
    """Return what a follower is sent for a delta."""
    made: Message = descriptors.message_type("ai.stigmer.agentic.agentexecution.v1.AgentExecutionLive")(delta=delta)
    return made.SerializeToString()
