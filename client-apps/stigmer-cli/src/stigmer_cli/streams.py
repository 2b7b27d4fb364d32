"""Following a stream of the server that can be resumed: through lost connections, and restarts of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

from stigmer_cli import console
from stigmer_cli.errors import UnavailableError
from stigmer_cli.options import Session
from stigmer_cli.resources import Message
from stigmer_cli.runs.place import open_place

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
PATIENCE_SECONDS = 600.0

Opening = Callable[["Channel", str], AsyncIterator[Message]]
"""Begins the stream on a channel, after the message that came with a token; without a token, at its beginning."""


def _own_token(message: Message) -> str:
    return message.resume_token


async def resume(
    session: Session,
    open_stream: Opening,
    *,
    command: str,
    token: str = "",
    token_of: Callable[[Message], str] = _own_token,
) -> AsyncGenerator[Message]:
    """Yield the messages of a stream, in order and each once, for as long as it is read.

    A server that is lost is looked for again, and the stream goes on after the last message. Where the server keeps
    what came next no more, that is told, and the stream begins anew.

    Args:
        session: Where to look for the server; a stack is never started.
        open_stream: Begins the stream.
        command: Who asks.
        token: Where to go on; empty to begin at the beginning.
        token_of: Where to go on after a message; "" for a stream that always begins with all there is.

    Raises:
        UnavailableError: There was no server to begin with, or it did not come back for ten minutes.
        RpcError: The server refuses the stream; of a token that the caller gave, OUT_OF_RANGE when it is too old.
    """
    from stigmer_grpc.errors import CancelledError, OutOfRangeError
    from stigmer_grpc.errors import UnavailableError as ServerAwayError

    is_known = received = False
    pause, waited = FIRST_PAUSE, 0.0
    while True:
        try:
            async with open_place(session, command=command, own=False) as place:
                is_known = True
                async for message in open_stream(place.resources.channel, token):
                    received, token = True, token_of(message) or token
                    pause, waited = FIRST_PAUSE, 0.0
                    yield message
        except OutOfRangeError:
            if not received:
                raise
            console.note("some of what happened meanwhile is kept no more; beginning anew")
            token = ""
            continue
        except (UnavailableError, ServerAwayError, CancelledError):
            if not is_known or waited >= PATIENCE_SECONDS:
                raise
        if not waited:
            console.note("the connection was lost, looking for the server …")
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, LONGEST_PAUSE)
