"""Which server a command talks to: the one it is told, the stack that runs, or one inside this very process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from stigmer_cli.environment import Environment
from stigmer_cli.errors import UnavailableError
from stigmer_cli.stack.lock import Holder, StackLock, find_holder
from stigmer_cli.stack.logs import now_stamp
from stigmer_cli.stack.state import StackStatus, read_status
from stigmer_cli.target import Target, credentials, resolve, stack_token
from stigmer_cli.traces import traced

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel

CONNECT_SECONDS = 5.0
_AGAIN_SECONDS = 1.5
"""After a connection that was refused there is time for one more, as to a server that is just being replaced."""
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.05


@asynccontextmanager
async def connect(environment: Environment, *, server: str = "", command: str = "stigmer") -> AsyncGenerator[Channel]:
    """Open a channel to the server for resources.

    Without an address, and with no stack running, the server is opened inside this process on the home's database;
    it stores and lists as always, and starts no run.

    Raises:
        UnavailableError: No server answers, or the database is taken by something that does not serve.
    """
    address = server or environment.server_address
    if address:
        async with dial(address, environment, command=command) as channel:
            yield channel
        return
    lock = StackLock(environment.home.lock)
    status = await _stack_or_lock(environment, lock, command)
    if status is not None:
        async with dial(status.server, environment, command=command) as channel:
            yield channel
        return
    try:
        from stigmer_cli.stack.server import EmbeddedServer

        async with EmbeddedServer(environment.home) as embedded:
            yield embedded.channel()
    finally:
        lock.release()


@asynccontextmanager
async def dial(address: str, environment: Environment, *, command: str = "stigmer") -> AsyncGenerator[Channel]:
    """Open a channel to a server and wait until it answers.

    A token goes along where there is one: that of the options or variables, or, to the stack of this home, its own.
    Where somebody wants traces, all calls of the block are in one, under the name of the command.

    Raises:
        InvalidInputError: The address or the token cannot be used.
        UnavailableError: No server answers.
    """
    from stigmer_grpc.client import connect as open_channel
    from stigmer_grpc.errors import UnavailableError as NoAnswerError
    from stigmer_protos import descriptors

    target = _with_token(resolve(address, environment), environment)
    sealed = credentials(target, environment)
    with traced(environment, command) as tracing:
        opened = open_channel(
            target.address, pool=descriptors.pool(), metadata=target.metadata, credentials=sealed, tracing=tracing
        )
        async with opened as channel:
            try:
                await channel.ready(CONNECT_SECONDS, patience=_AGAIN_SECONDS)
            except NoAnswerError:
                raise _no_answer(target) from None
            yield channel


def _with_token(target: Target, environment: Environment) -> Target:
    """Return the target with the token of this home's stack, if that is what it is and no other token was given."""
    status = running_stack(environment)
    if target.token or status is None or status.auth != "token" or target.address != status.server:
        return target
    return replace(target, token=stack_token(environment))


def _no_answer(target: Target) -> UnavailableError:
    if target.tls:
        msg = f"no server with a certificate that can be trusted answers at {target.address}"
        return UnavailableError(msg, hint="--ca FILE names the authority of a certificate that nobody else knows")
    msg = f"no server answers at {target.address}"
    hint = "`stigmer status` shows what runs here, `stigmer up` starts it; write https:// before one that speaks TLS"
    return UnavailableError(msg, hint=hint)


def running_stack(environment: Environment) -> StackStatus | None:
    """Return the stack that runs in this home and serves, None when none does (yet)."""
    holder = find_holder(environment.home.lock)
    status = read_status(environment.home.state)
    if holder is None or status is None or status.pid != holder.pid or not status.serving:
        return None
    return status


async def _stack_or_lock(environment: Environment, lock: StackLock, command: str) -> StackStatus | None:
    """Return the stack that serves this home, or None after the lock was taken because there is none."""
    environment.home.create()
    holder = Holder(pid=os.getpid(), command=command, started_at=now_stamp())
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if status := running_stack(environment):
            return status
        if lock.acquire(holder):
            return None
        # Someone has the lock and does not serve: a stack that is starting, or another command that is soon done.
        await asyncio.sleep(_POLL_SECONDS)
    owner = find_holder(environment.home.lock)
    msg = (
        f"the database in {environment.home.root} is held by `{owner.command}`, process {owner.pid}"
        if owner
        else (f"the database in {environment.home.root} is held by another process")
    )
    raise UnavailableError(msg, hint="wait for it, or end it with `stigmer down`")
