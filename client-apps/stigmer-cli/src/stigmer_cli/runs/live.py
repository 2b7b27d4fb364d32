"""The states of a run with the words of its agent in them, as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from stigmer_protos.descriptors import Kind

from stigmer_cli.resources import Message, Resources

_AI = "MESSAGE_AI"


async def live_states(resources: Resources, kind: Kind, identifier: str) -> AsyncGenerator[Message]:
    """Yield the run as it is, and as it becomes; an agent's word by word, where the server passes words on.

    Messages are the same one again and again, changed: what is to be kept of one must be copied.
    """
    from stigmer_grpc.errors import UnimplementedError

    news = resources.live(kind, identifier)
    if news is not None:
        words = _Words()
        try:
            async with news:
                async for each in news:
                    if (state := words.take(each)) is not None:
                        yield state
            return
        except UnimplementedError:
            pass  # A server that is older than this command.
    async with resources.subscribe(kind, identifier) as states:
        async for state in states:
            yield state


@dataclass(slots=True)
class _Words:
    """The newest state, and what is said beyond it."""

    state: Message = None
    texts: dict[int, str] = field(default_factory=dict[int, str])
    """By their place among the messages."""

    def take(self, news: Message) -> Message | None:
        """Take something new in; gives the run, if it looks different now."""
        if news.HasField("execution"):
            self.state = news.execution
            self._put_in()
            return self.state
        delta = news.delta
        if self.state is None or delta.position < 0:
            return None
        messages = self.state.status.messages
        known = self.texts.get(delta.position, "")
        if not known and delta.position < len(messages):
            known = messages[delta.position].content
        if delta.offset > len(known):
            return None  # What comes before it is in the next state.
        self.texts[delta.position] = known[: delta.offset] + delta.text
        return self.state if self._put_in(delta.position) else None

    def _put_in(self, changed: int = -1) -> bool:
        """Put the words into the state, unless that is ahead of them; tells whether it has changed."""
        messages = self.state.status.messages
        is_changed = False
        for position, text in sorted(self.texts.items()):
            if position == len(messages):
                messages.add(type=_AI, content=text)
                is_changed = True
            elif position < len(messages):
                if position == changed or text.startswith(messages[position].content):
                    is_changed = is_changed or messages[position].content != text
                    messages[position].content = text
                else:
                    del self.texts[position]
        return is_changed
