"""One request that is a call, and what all shapes of calls need of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.datastructures import Headers
from stigmer_grpc import Channel, ResponseStream

from stigmer_server.http import metadata, requests
from stigmer_server.http.bodies import Body, GoneError, Receive, check_json
from stigmer_server.http.proto_json import parse_json
from stigmer_server.http.routes import Match, Route
from stigmer_server.messages import Message

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request that is a call, with all that was found out before it is made."""

    channel: Channel
    route: Route
    match: Match
    headers: Headers
    path: str
    parameters: list[tuple[str, str]]
    options: requests.Options
    body: Body
    receive: Receive
    id: str
    """The request id."""
    metadata: Mapping[str, str]
    timeout: float

    @property
    def is_dry(self) -> bool:
        """Whether nothing is kept of what the call does."""
        return self.metadata.get(metadata.DRY_RUN) == "true"

    async def message(self) -> Message:
        """Return the one message of the request; its body, if it takes one, is JSON.

        Raises:
            InvalidArgumentError: It does not fit.
            HttpError: The body is not to be had.
            GoneError: The caller is gone.
        """
        plain: Any = None
        if self.route.body is None:
            await self.body.spill()
        else:
            if not self.body.is_absent:
                check_json(self.body)
            text = await self.body.read()
            plain = parse_json(text) if text else None
        return self.build(plain)

    def build(self, plain: Any) -> Message:
        """Return the message of the request for a body of this content. Raises: InvalidArgumentError, HttpError."""
        return requests.build(self.route, self.match, self.parameters, plain)

    async def unary(self, request: Message, trailers: dict[str, str | bytes]) -> Message:
        """Make the call, and give it up when the caller goes. Raises: RpcError, GoneError."""
        method = self.route.method
        async with cancelled_when_gone(self.receive):
            return await self.channel.service(method.service).unary(
                method.name, request, timeout=self.timeout, metadata=self.metadata, trailers=trailers
            )

    def stream(self, request: Message) -> ResponseStream:
        """Begin the call; whoever has the stream ends it."""
        method = self.route.method
        stub = self.channel.service(method.service)
        return stub.stream(method.name, request, timeout=self.timeout, metadata=self.metadata)


@asynccontextmanager
async def cancelled_when_gone(receive: Receive) -> AsyncGenerator[None]:
    """End what the block waits for when the caller closes the connection; the request's body must have been read.

    Raises:
        GoneError: The caller is gone.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine always runs in one
    watch = asyncio.create_task(_gone(receive))
    watch.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if watch.done() and task.uncancel() == 0:
            raise GoneError from None
        raise
    finally:
        watch.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
