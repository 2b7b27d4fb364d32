"""Tell those who follow an execution what its agent is saying."""

from __future__ import annotations

from collections.abc import Sequence

from stigmer_server import parts
from stigmer_server.kinds import Kind
from stigmer_server.live import Live
from stigmer_server.messages import Message
from stigmer_server.resources import Resources


async def tell(resources: Resources, live: Live, kind: Kind, id: str, deltas: Sequence[Message]) -> None:
    """Pass on what is said; of an execution that has ended, nothing is. Nothing is written.

    Raises:
        MissingError: There is no such execution, or the caller may not see it.
    """
    caller = resources.call.caller.id
    if not live.is_admitted(id, caller):
        head = await resources.head(kind, id)
        if kind.is_finished(kind.parse(parts.head(head))):
            live.forget(id)
            return
        live.admit(id, caller)
    live.tell(id, deltas)
