"""Where a run takes place: a server that runs already, or a stack that lives as long as this command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from stigmer_cli.connection import dial, running_stack
from stigmer_cli.errors import ConflictError, UnavailableError
from stigmer_cli.options import Session
from stigmer_cli.resources import Resources
from stigmer_cli.stack.lock import find_holder

if TYPE_CHECKING:
    from stigmer_cli.stack.stack import Stack

T = TypeVar("T")

_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server with an engine."""

    resources: Resources
    stack: Stack | None
    """The stack this command owns, None when someone else runs the server."""

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work for as long as it can be done here.

        Raises:
            UnavailableError: The stack of this command broke meanwhile.
        """
        if self.stack is None:
            return await work
        working = asyncio.ensure_future(work)
        breaking = asyncio.ensure_future(self.stack.broken())
        try:
            await asyncio.wait({working, breaking}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else await _never(breaking)
        finally:
            for task in (working, breaking):
                task.cancel()
            await asyncio.gather(working, breaking, return_exceptions=True)


@asynccontextmanager
async def open_place(
    session: Session, *, command: str, own: bool = True, starting: Callable[[], None] = lambda: None
) -> AsyncGenerator[Place]:
    """Open the server of `--server`, else that of the running stack, else a stack for the length of this command.

    Args:
        session: Where to look.
        command: Who asks, for others who find the stack taken.
        own: Whether a stack may be started.
        starting: Called before one is.

    Raises:
        UnavailableError: No server answers, or nothing runs and `own` forbids to start a stack.
    """
    address = session.server or session.environment.server_address
    if address:
        async with dial(address, session.environment, command=command) as channel:
            yield Place(resources=Resources(channel), stack=None)
        return
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if status := running_stack(session.environment):
            async with dial(status.server, session.environment, command=command) as channel:
                yield Place(resources=Resources(channel), stack=None)
            return
        if not own:
            msg = "no stack runs here"
            raise UnavailableError(msg, hint="start one that stays: `stigmer up --detach`")
        stack = _new_stack(session, command)
        if find_holder(session.environment.home.lock) is None:
            starting()
        try:
            await stack.__aenter__()
        except ConflictError:
            # Another command has it: a stack that is starting and will serve, or one that is soon done.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_POLL_SECONDS)
            continue
        async with stack_exit(stack):
            yield Place(resources=Resources(stack.channel()), stack=stack)
        return


@asynccontextmanager
async def stack_exit(stack: Stack) -> AsyncGenerator[None]:
    """End a stack that was entered already."""
    try:
        yield
    finally:
        await stack.__aexit__(None, None, None)


def _new_stack(session: Session, command: str) -> Stack:
    from stigmer_cli.stack.stack import Stack

    return Stack(session.environment, command=command)


async def _never(breaking: asyncio.Future[None]) -> Any:
    await breaking
    msg = "the stack broke"
    raise UnavailableError(msg)
