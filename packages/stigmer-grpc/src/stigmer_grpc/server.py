"""The server's life: bound, listening, serving, draining, stopped.

Owns the sockets, the open calls, and what health tells of them. Knows services as `Service` values and nothing
of what they do. Signals stay with the application, which calls `stop`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from loguru import logger

from stigmer_grpc._dispatch import Calls, dispatchers
from stigmer_grpc._wire import GenericHandler, server_options
from stigmer_grpc.binding import Service
from stigmer_grpc.channel import InProcessChannel
from stigmer_grpc.context import MetadataInput
from stigmer_grpc.health import Health
from stigmer_grpc.in_process import InProcessTransport
from stigmer_grpc.interceptors.port import StreamInterceptor, UnaryInterceptor
from stigmer_grpc.reflection import reflection_services

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
_AFTERMATH = 1.0
"""Seconds that cancelled handlers get to clean up before the sockets close under them."""
_QUIET = 0.02
"""Seconds without a new call after which none is on its way through grpc's core."""


class Server:
    """Serves services over sockets and in process.

    Args:
        services: What `bind` made.
        pool: The descriptor pool of the services; reflection answers from it.
        interceptors: Outermost first; they stand before `services`, not before health and reflection, which would
            only fill the log.
        max_message_bytes: Limit of one message, both ways; a larger one ends its call with RESOURCE_EXHAUSTED.
        upload_idle_seconds: How long the next message of a stream of requests with one response may take to come over
            a socket; a call that waits longer ends with DEADLINE_EXCEEDED. None: for ever.
        health: Serve grpc.health.v1.
        reflection: Serve grpc.reflection v1 and v1alpha.
        reflection_interceptors: Stand before reflection, for servers that do not tell everybody what they serve.

    Raises:
        ValueError: Two services have one name.
        TypeError: An interceptor has neither of the two methods.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        pool: DescriptorPool,
        interceptors: Sequence[UnaryInterceptor | StreamInterceptor] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        upload_idle_seconds: float | None = None,
        health: bool = True,
        reflection: bool = True,
        reflection_interceptors: Sequence[UnaryInterceptor | StreamInterceptor] = (),
    ) -> None:
        own = tuple(services)
        _check_interceptors((*interceptors, *reflection_interceptors))
        self.pool = pool
        self.max_message_bytes = max_message_bytes
        self._upload_idle_seconds = upload_idle_seconds
        self._calls = Calls()
        self._health = Health(service.name for service in own)
        healths = (self._health.service(),) if health else ()
        named = (*own, *healths)
        reflections = reflection_services([service.name for service in named], pool) if reflection else ()
        _check_names((*named, *reflections))
        self._dispatchers = {
            **dispatchers(own, interceptors, self._calls, max_message_bytes),
            **dispatchers(healths, (), self._calls, max_message_bytes),
            **dispatchers(reflections, reflection_interceptors, self._calls, max_message_bytes),
        }
        self._listener: Any = None
        self._addresses: tuple[str, ...] = ()
        self._stop: asyncio.Task[None] | None = None

    @property
    def stopping(self) -> asyncio.Event:
        """Set as soon as `stop` is called. Handlers see the same event as `context.stopping`."""
        return self._calls.stopping

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server listens, in the order given to `start`; empty before it."""
        return self._addresses

    async def start(self, *addresses: str, credentials: grpc.ServerCredentials | None = None) -> tuple[str, ...]:
        """Listen, and answer calls from here on.

        Args:
            addresses: "host:port", "[::1]:port", ":port" (loopback), "unix:/path". Port 0 picks a free one. None at
                all: a free port of the loopback interface.
            credentials: TLS for the TCP addresses. Unix sockets are guarded by the permissions of their folder.

        Returns:
            The addresses as bound, with their real ports.

        Raises:
            OSError: One of the addresses cannot be had; none is open then.
            RuntimeError: The server was started or stopped before.
        """
        if self._listener is not None or self.stopping.is_set():
            raise RuntimeError("a server starts once")
        listener = grpc.aio.server(
            handlers=(GenericHandler(self._dispatchers, self._upload_idle_seconds),),
            options=server_options(self.max_message_bytes),
        )
        self._listener = listener
        try:
            bound = tuple(_bind(listener, address, credentials) for address in addresses or ("127.0.0.1:0",))
            await listener.start()
        except BaseException:
            self._listener = None
            await listener.stop(None)
            raise
        self._addresses = bound
        logger.info("serving at {}", ", ".join(bound))
        return bound

    def set_serving(self, service: str = "", serving: bool = True) -> None:
        """What health says of `service`, "" being the server as a whole. All are serving to begin with.

        Without effect once the server stops: then none is serving any more.
        """
        self._health.set(service, serving)

    def channel(
        self,
        *,
        timeout: float | None = 30.0,
        metadata: MetadataInput = (),
        values: Mapping[str, object] | None = None,
    ) -> InProcessChannel:
        """A channel to this server with no socket between; works before `start` and without it.

        Use it on the event loop on which the server runs.

        Args:
            timeout: See `connect`.
            metadata: See `connect`.
            values: What interceptors and handlers find in `context.values` of every call. No caller over a socket
                can put anything there, so this is where the process vouches for a channel of its own.
        """
        transport = InProcessTransport(self._dispatchers, self._calls, values)
        return InProcessChannel(
            transport,
            pool=self.pool,
            timeout=timeout,
            metadata=metadata,
            max_message_bytes=self.max_message_bytes,
        )

    async def stop(self, grace: float = 5.0) -> None:
        """Take no more calls, let the open ones end, cancel the rest after `grace` seconds, and close.

        Health says not serving at once and `stopping` is set, so that endless streams can end by themselves. Calls
        that had to be cancelled end with UNAVAILABLE. Returns when all is closed, at most about two seconds after
        `grace` even if a handler ignores its cancellation. A second stop waits for the first.
        """
        if self._stop is None:
            self._stop = asyncio.create_task(self._shut_down(grace), name="stop of the gRPC server")
        await asyncio.shield(self._stop)

    async def _shut_down(self, grace: float) -> None:
        self.stopping.set()
        self._health.close()
        await self._calls.drain(grace)
        await self._calls.turn_away(_AFTERMATH)
        if self._listener is not None:
            # Closing drops, as CANCELLED, the calls that were read from a socket and not handed to us yet. So the
            # sockets close last, when the clients have been told UNAVAILABLE and have gone quiet.
            await self._calls.lull(_QUIET, _AFTERMATH)
            await self._listener.stop(_AFTERMATH)
        logger.info("stopped serving at {}", ", ".join(self._addresses) or "no address")


def _bind(listener: Any, address: str, credentials: grpc.ServerCredentials | None) -> str:
    unix = address.startswith(("unix:", "unix-abstract:"))
    target = f"127.0.0.1{address}" if address.startswith(":") else address
    try:
        if credentials is None or unix:
            port = listener.add_insecure_port(target)
        else:
            port = listener.add_secure_port(target, credentials)
    except RuntimeError as error:
        raise OSError(errno.EADDRINUSE, f"cannot listen at {target}: {error}") from None
    return target if unix else f"{target.rpartition(':')[0]}:{port}"


def _check_interceptors(interceptors: Iterable[object]) -> None:
    for interceptor in interceptors:
        if not isinstance(interceptor, UnaryInterceptor | StreamInterceptor):
            raise TypeError(f"{interceptor!r} has neither intercept_unary nor intercept_stream")


def _check_names(services: Sequence[Service]) -> None:
    names = [service.name for service in services]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"services bound twice: {', '.join(twice)}")
