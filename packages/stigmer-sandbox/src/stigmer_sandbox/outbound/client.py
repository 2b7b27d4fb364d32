"""Whole exchanges through the guard: redirects, size and time under the policy's caps."""

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

import httpx2

from stigmer_sandbox.errors import (
    EncodingError,
    OutboundTimeoutError,
    ResponseTooLargeError,
    TooManyRedirectsError,
)
from stigmer_sandbox.outbound.pinning import Resolver, resolve
from stigmer_sandbox.outbound.policy import OutboundPolicy
from stigmer_sandbox.outbound.target import read_target
from stigmer_sandbox.outbound.transport import GuardedTransport

# What a request may carry to another origin than the one it was written for.
_HARMLESS_HEADERS = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
_ZLIB_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A whole response."""

    url: str
    """Where it came from, after redirects."""
    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order sent; content-encoding is already undone."""
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A response whose body is still on its way."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """As in `Fetched`."""
    body: AsyncIterator[bytes]
    """The body in parts, decompressed; raises what `fetch` does."""


def guarded_client(
    policy: OutboundPolicy,
    *,
    resolver: Resolver = resolve,
    ssl_context: ssl.SSLContext | None = None,
    max_connections: int = 100,
) -> httpx2.AsyncClient:
    """Return an httpx2 client whose every connection, redirects included, is checked by `policy`.

    The client follows no redirects and reads no proxy or credentials from the environment.
    Use `fetch` for the caps on size and time.
    """
    transport = GuardedTransport(policy, resolver=resolver, ssl_context=ssl_context, max_connections=max_connections)
    return httpx2.AsyncClient(
        transport=transport,
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "gzip, deflate"},
        timeout=httpx2.Timeout(None, connect=policy.connect_timeout),
    )


async def fetch(
    client: httpx2.AsyncClient,
    policy: OutboundPolicy,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    follow_redirects: bool = False,
    seconds: float | None = None,
    max_bytes: int | None = None,
    auth: httpx2.Auth | None = None,
) -> Fetched:
    """Make one exchange and return the whole response, whatever its status.

    `seconds` and `max_bytes` replace the policy's caps; `auth` authenticates, and may send the request again for it.
    A redirect to another origin keeps no header but those that describe the content: others may hold
    credentials. It is not authenticated either.

    Raises:
        OutboundError: The request was refused, or broke a cap.
        httpx2.TransportError: The peer could not be reached, or broke the protocol.
    """
    limit = policy.total_timeout if seconds is None else seconds
    # The text as written is read before httpx2 normalizes it: both must mean the same place.
    read_target(url)
    try:
        async with asyncio.timeout(limit):
            request = client.build_request(method, url, headers=headers, content=content)
            cap = policy.max_response_bytes if max_bytes is None else max_bytes
            return await _exchange(client, policy, request, auth, follow=follow_redirects, cap=cap)
    except TimeoutError:
        raise OutboundTimeoutError(f"no complete answer within {limit:g} s") from None


@contextlib.asynccontextmanager
async def stream(
    client: httpx2.AsyncClient,
    policy: OutboundPolicy,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    auth: httpx2.Auth | None = None,
) -> AsyncGenerator[Streamed]:
    """Send one request and give the response while it comes, until the block ends.

    Redirects are responses like others. The size of the body is capped as in `fetch`; its time is the caller's.

    Raises:
        OutboundError: The request was refused, or broke a cap.
        httpx2.TransportError: The peer could not be reached, or broke the protocol.
    """
    read_target(url)
    response = await _send(client, client.build_request(method, url, headers=headers, content=content), auth)
    async with contextlib.aclosing(response):
        body = _capped(response, policy.max_response_bytes)
        yield Streamed(status=response.status_code, headers=_headers(response), body=body)


async def _exchange(
    client: httpx2.AsyncClient,
    policy: OutboundPolicy,
    request: httpx2.Request,
    auth: httpx2.Auth | None,
    *,
    follow: bool,
    cap: int,
) -> Fetched:
    home = _origin(request.url)
    for _ in range(policy.max_redirects + 1):
        response = await _send(client, request, auth if _origin(request.url) == home else None)
        try:
            following = response.next_request if follow else None
            if following is None:
                return await _whole(response, cap)
        finally:
            await response.aclose()
        _strip_for(following, request)
        request = following
    raise TooManyRedirectsError(f"more than {policy.max_redirects} redirects")


async def _send(client: httpx2.AsyncClient, request: httpx2.Request, auth: httpx2.Auth | None) -> httpx2.Response:
    """Send a request, again where its authentication asks for it. httpx2's own way reads refusals without bound."""
    if auth is None:
        return await client.send(request, stream=True)
    flow = auth.async_auth_flow(request)
    try:
        outgoing = await anext(flow)
        while True:
            response = await client.send(outgoing, stream=True)
            try:
                outgoing = await flow.asend(response)
            except StopAsyncIteration:
                return response
            except BaseException:
                await response.aclose()
                raise
            await response.aclose()
    finally:
        await flow.aclose()


async def _whole(response: httpx2.Response, cap: int) -> Fetched:
    body = bytearray()
    async for part in _capped(response, cap):
        body += part
    return Fetched(url=str(response.url), status=response.status_code, headers=_headers(response), body=bytes(body))


def _headers(response: httpx2.Response) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in response.headers.multi_items())


async def _capped(response: httpx2.Response, cap: int) -> AsyncIterator[bytes]:
    declared = "" if response.request.method == "HEAD" else response.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > cap:
        raise ResponseTooLargeError(f"the response holds {declared} bytes, more than the cap of {cap}")
    size = 0
    async for part in _decoded(response, cap + 1):
        size += len(part)
        if size > cap:
            raise ResponseTooLargeError(f"the response is larger than the cap of {cap} bytes")
        yield part


async def _decoded(response: httpx2.Response, most: int) -> AsyncIterator[bytes]:
    """Undo the content encoding, at most `most` bytes a step, so that no small input grows without bound."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        async for part in response.aiter_raw():
            yield part
        return
    if encoding not in _ZLIB_WINDOWS:
        raise EncodingError(f"the content encoding {encoding!r} was not asked for")
    inflater = zlib.decompressobj(_ZLIB_WINDOWS[encoding])
    try:
        async for part in response.aiter_raw():
            yield inflater.decompress(part, most)
            while inflater.unconsumed_tail:
                yield inflater.decompress(inflater.unconsumed_tail, most)
        yield inflater.flush(most)
    except zlib.error as error:
        raise EncodingError(f"the {encoding} body is broken: {error}") from None


def _strip_for(following: httpx2.Request, previous: httpx2.Request) -> None:
    if _origin(following.url) == _origin(previous.url):
        return
    for name in list(following.headers):
        if name not in _HARMLESS_HEADERS and name not in ("host", "content-length", "transfer-encoding"):
            del following.headers[name]


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    target = read_target(str(url))
    return target.scheme, target.host, target.port
