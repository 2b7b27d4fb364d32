"""What a protocol of messages is to AsyncAPI calls.

Above it stand the calls, which know documents and workflows; below it one module for each protocol, which knows how
to speak to its brokers and nothing of documents. A module is found by being in `protocols` and has an object
`PROTOCOL`.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from stigmer_sandbox import OutboundPolicy

from workflow_runner.activities.peers import reachable
from workflow_runner.activities.requests import Requests

T = TypeVar("T")

_MOMENT_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who we are, as brokers ask it."""

    username: str = ""
    password: str = ""
    token: str = ""
    mechanism: str = ""
    """What the document's security scheme asks for, such as `scramSha256`; empty where it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where messages go to or come from."""

    scheme: str
    """The protocol by the document's word, such as `mqtts`."""
    tls: bool
    host: str
    port: int
    path: str
    """Of the server's address, without a slash at its end: a virtual host, a database, a base path."""
    channel: str
    """The channel's address: a topic, a queue, a path."""
    credentials: Credentials = Credentials()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Authenticate over HTTP."""
    operation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The operation's binding of the protocol."""
    binding: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The channel's binding of the protocol."""
    most_bytes: int = 1_500_000
    """A longer message is refused."""

    @property
    def authority(self) -> str:
        """Host and port, as addresses have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, scheme: str) -> str:
        """Return the address of the channel where that is a path; `scheme` is the one without TLS."""
        channel = quote(self.channel.lstrip("/"), safe="/?=&:@%+,;~")
        return f"{scheme}{'s' if self.tls else ''}://{self.authority}{self.path}/{channel}"

    def __str__(self) -> str:
        return f"{self.channel} at {self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A message to publish."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    key: str | None = None
    """By which a broker that has partitions chooses one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """A message that came."""

    body: bytes
    content_type: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    correlation_id: str = ""
    position: Any = None
    """Where a subscription goes on after it, as JSON; None where the protocol has no such place."""


class Feed(Protocol):
    """An open subscription."""

    @property
    def settles(self) -> bool:
        """Whether the broker keeps each message until it is told that it is done."""
        ...

    async def take(self, most: int, seconds: float) -> list[Inbound]:
        """Return up to `most` messages that are there, or wait up to `seconds` for one. None lost if cancelled.

        Raises:
            CallFailedError: The subscription is broken.
        """
        ...

    async def settle(self, done: int) -> None:
        """Tell the broker that the first `done` of the messages taken and not settled are done; others go back."""
        ...

    async def close(self, *, over: bool) -> None:
        """Stop listening; what is not settled goes back. Unless it is `over`, the subscription may be opened again."""
        ...


async def gathered(next_: Callable[[], Awaitable[T]], most: int, seconds: float) -> list[T]:
    """Return what `next_` gives within `seconds`, and what more is there right then; `next_` may be cancelled."""
    found: list[T] = []
    try:
        async with asyncio.timeout(seconds):
            found.append(await next_())
        while len(found) < most:
            async with asyncio.timeout(_MOMENT_SECONDS):
                found.append(await next_())
    except TimeoutError:
        pass
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What protocols need from the runner."""

    policy: OutboundPolicy
    requests: Requests
    trust: Callable[[], ssl.SSLContext]
    """Makes a context that trusts what calls trust."""

    async def address(self, route: Route) -> str:
        """Return the checked address to connect to.

        Raises:
            CallFailedError: The policy refuses it, or nothing answers.
        """
        return await reachable(self.policy, route.host, route.port)

    def context(self, route: Route) -> ssl.SSLContext | None:
        """Return how TLS is spoken to the host of a route though it is connected to by address; None: it is not."""
        if not route.tls:
            return None
        context = self.trust()
        return named(context, route.host)


def named(context: ssl.SSLContext, host: str) -> ssl.SSLContext:
    """Return a context that expects the certificate of `host`, whatever a client library thinks it connects to."""
    wrap_socket, wrap_bio = context.wrap_socket, context.wrap_bio

    def socket_of(*args: Any, **more: Any) -> ssl.SSLSocket:
        return wrap_socket(*args, **{**more, "server_hostname": host})

    def bio_of(*args: Any, **more: Any) -> ssl.SSLObject:
        return wrap_bio(*args, **{**more, "server_hostname": host})

    # Set on this one context, which is made for one connection.
    own: Any = context
    own.wrap_socket, own.wrap_bio = socket_of, bio_of
    return context


class MessageProtocol(Protocol):
    """One protocol."""

    @property
    def schemes(self) -> Mapping[str, tuple[bool, int]]:
        """The names that documents have for it: whether each speaks TLS, and its usual port."""
        ...

    @property
    def library(self) -> str:
        """The module that it needs; empty for none."""
        ...

    @property
    def extra(self) -> str:
        """What to install with the runner to have it."""
        ...

    async def publish(self, route: Route, message: Outbound, tools: Tools, *, seconds: float) -> None:
        """Publish one message, and return once the broker has it where it says so.

        Raises:
            CallFailedError: It could not be published.
        """
        ...

    async def subscribe(self, route: Route, tools: Tools, *, name: str, position: Any, most: int) -> Feed:
        """Return a subscription.

        Args:
            route: To what.
            tools: The runner's.
            name: A name for the subscription, the same when it is opened again.
            position: Of the last message that was taken; None at the beginning.
            most: How many messages may be taken before they are settled.

        Raises:
            CallFailedError: There is none to be had.
        """
        ...
