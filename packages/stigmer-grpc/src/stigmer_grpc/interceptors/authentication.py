"""Who calls: the bearer token of a call, and whom it belongs to.

What tokens there are is the application's business, told by an `Authenticator`; what a caller may do is decided
after this, by others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo

from stigmer_grpc.backoff import Backoff
from stigmer_grpc.binding import Message
from stigmer_grpc.context import CallContext
from stigmer_grpc.errors import ResourceExhaustedError, UnauthenticatedError
from stigmer_grpc.interceptors.port import CallNext, CallNextStream

AUTHORIZATION = "authorization"
"""The metadata key of the token: `Bearer TOKEN`."""
FORWARDED_PEER = "x-stigmer-peer"
"""Metadata of a call in process that is made for somebody else: where that one is, as `CallContext.peer` says it.

Whoever passes calls on from elsewhere must set it itself and pass on none that came with a call.
"""
_CROWDED_SECONDS = 5
_IN_PROCESS = "in-process"


class Authenticator(Protocol):
    """Knows whom tokens belong to. What it returns is put into `CallContext.values` and means nothing here."""

    def recall(self, token: str) -> object | None:
        """Return whose token it is if that is known without looking; None tells nothing.

        Called for every call, so it has to be quick. A token that is no longer good must not be recalled.
        """
        ...

    async def look_up(self, token: str) -> object | None:
        """Return whose token it is; None when it is nobody's.

        Raises:
            UnauthenticatedError: It is somebody's and not good any more; the message says why.
        """
        ...

    def attend(self, identity: object, context: CallContext) -> Callable[[], None]:
        """Be told of a stream that has begun, to abort it should its token cease to be good.

        The returned function is called when the stream is over.
        """
        ...


class Authentication:
    """Lets through calls with a good token, and says whose in `context.values[key]`; others are UNAUTHENTICATED.

    A call that has an identity already keeps it: a channel in process that was made with one. Calls with tokens that
    nobody has are answered late, the later the more of them a host makes; a token that was good before is never held
    up by them.

    Args:
        authenticator: Whose tokens are which.
        key: Where the identity goes.
        backoff: How those who guess are slowed down.
    """

    def __init__(self, authenticator: Authenticator, *, key: str, backoff: Backoff | None = None) -> None:
        self._authenticator = authenticator
        self._recall = authenticator.recall
        self._key = key
        self._backoff = Backoff() if backoff is None else backoff

    def intercept_unary(self, call_next: CallNext, request: Any, context: CallContext) -> Awaitable[Message | bytes]:
        """See UnaryInterceptor."""
        values = context.values
        if self._key not in values:
            token = _token(context)
            identity = self._recall(token)
            if identity is None:
                return self._introduced(token, call_next, request, context)
            values[self._key] = identity
        if context.bound.client_streaming:
            return self._attended(call_next, request, context)
        return call_next(request, context)

    async def intercept_stream(
        self, call_next: CallNextStream, request: Any, context: CallContext
    ) -> AsyncIterator[Message | bytes]:
        """See StreamInterceptor."""
        values = context.values
        if self._key not in values:
            token = _token(context)
            values[self._key] = self._recall(token) or await self._find(token, context)
        over = self._authenticator.attend(values[self._key], context)
        try:
            responses: Any = call_next(request, context)
            async with aclosing(responses):
                async for response in responses:
                    yield response
        finally:
            over()

    async def _introduced(self, token: str, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        context.values[self._key] = await self._find(token, context)
        if context.bound.client_streaming:
            return await self._attended(call_next, request, context)
        return await call_next(request, context)

    async def _attended(self, call_next: CallNext, request: Any, context: CallContext) -> Message | bytes:
        """Answer a call that may last, as long as its identity holds."""
        over = self._authenticator.attend(context.values[self._key], context)
        try:
            return await call_next(request, context)
        finally:
            over()

    async def _find(self, token: str, context: CallContext) -> object:
        peer = _peer(context)
        self._turn_away(peer)
        try:
            identity = await self._authenticator.look_up(token)
        except UnauthenticatedError:
            await self._hold_up(peer, context)
            raise
        if identity is None:
            await self._hold_up(peer, context)
            raise UnauthenticatedError("the token is not known here: it is mistyped, revoked, or another server's")
        return identity

    def _turn_away(self, peer: str) -> None:
        if self._backoff.is_crowded(peer):
            wait = RetryInfo(retry_delay=Duration(seconds=_CROWDED_SECONDS))
            problem = "too many calls with wrong tokens come from this address; wait a little"
            raise ResourceExhaustedError(problem, details=[wait])

    async def _hold_up(self, peer: str, context: CallContext) -> None:
        seconds = self._backoff.fail(peer)
        if not seconds:
            return
        self._turn_away(peer)
        done = self._backoff.wait(peer)
        try:
            async with asyncio.timeout(seconds):
                await context.stopping.wait()
        except TimeoutError:
            pass
        finally:
            done()


def _token(context: CallContext) -> str:
    given = context.metadata.get(AUTHORIZATION)
    if not given:
        raise UnauthenticatedError(
            "this server asks who calls: send a token in the call metadata, `authorization: Bearer TOKEN`"
        )
    scheme, _, token = str(given).strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("the call metadata `authorization` has to read `Bearer TOKEN`")
    return token


def _peer(context: CallContext) -> str:
    peer = context.peer
    if peer != _IN_PROCESS:
        return peer
    return str(context.metadata.get(FORWARDED_PEER, "")) or peer
