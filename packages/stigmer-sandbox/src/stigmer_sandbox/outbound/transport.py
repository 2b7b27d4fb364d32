"""An httpx2 transport that decides where every connection goes.

A name is resolved once for a connection, each of its addresses is checked, and the connection is
made to a checked address; there is no second look-up that could answer differently. Host header and
TLS server name stay the name's. Proxies from the environment are not used: they would connect for us.
"""

import ssl
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, cast

import httpcore2
import httpx2

from stigmer_sandbox.outbound.pinning import Resolver, checked_addresses, resolve
from stigmer_sandbox.outbound.policy import OutboundPolicy
from stigmer_sandbox.outbound.target import read_target

_KEEPALIVE_SECONDS = 5.0


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to checked addresses only."""

    def __init__(self, policy: OutboundPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver
        # httpcore2 declares it twice, once for an environment without anyio, which we depend on.
        self._inner = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first reachable address of `host`, once all of them are found acceptable."""
        failure: Exception = httpcore2.ConnectError(f"no address of {host} answers")
        found = await checked_addresses(self._policy, host, port, resolver=self._resolver, seconds=timeout)
        for address in found:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        """Refuse: no URL may name a socket of this machine."""
        raise httpcore2.ConnectError(f"unix sockets are not reachable from here: {path}")

    async def sleep(self, seconds: float) -> None:
        """Wait between connection attempts."""
        await self._inner.sleep(seconds)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport over `PinnedBackend`.

    Connections are pooled by scheme, host and port, so a kept connection leads where its name led
    when it was checked.

    Raises:
        TargetError: The URL is written in a way that is never accepted.
        RefusedAddressError: The policy refuses where it leads.
        ResolutionError: The name leads nowhere.
        httpx2.TransportError: What httpx2's own transport raises.
    """

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 100,
    ) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or httpx2.create_ssl_context(trust_env=False),
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=PinnedBackend(policy, resolver),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; redirects come back as the responses that they are."""
        read_target(str(request.url))
        inner = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=cast("AsyncIterator[bytes]", request.stream),
            extensions=request.extensions,
        )
        try:
            response = await self._pool.handle_async_request(inner)
        except Exception as error:
            raise _translated(error, request) from error
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_ResponseStream(response, request),
            extensions=dict(cast("dict[str, Any]", response.extensions)),  # pyright: ignore[reportUnknownMemberType] - httpcore2 leaves it open
        )

    async def aclose(self) -> None:
        """Close every pooled connection."""
        await self._pool.aclose()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class _ResponseStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response, request: httpx2.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.aiter_stream():
                yield part
        except Exception as error:
            raise _translated(error, self._request) from error

    async def aclose(self) -> None:
        await self._response.aclose()


def _translated(error: Exception, request: httpx2.Request) -> Exception:
    """Return httpx2's error of the same name as httpcore2's; other errors pass as they are."""
    if not type(error).__module__.startswith("httpcore2"):
        return error
    twin = getattr(httpx2, type(error).__name__, httpx2.TransportError)
    return cast("Exception", twin(str(error) or type(error).__name__, request=request))
