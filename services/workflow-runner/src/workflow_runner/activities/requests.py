"""Sending HTTP requests through the outbound guard, for whatever call needs one."""

import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from stigmer_sandbox import (
    Fetched,
    OutboundError,
    OutboundPolicy,
    OutboundTimeoutError,
    RefusedAddressError,
    Streamed,
    TargetError,
    fetch,
    guarded_client,
    stream,
)
from uritemplate import URITemplate

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.call_messages import EndpointArguments

_PORTS = {"http": 80, "https": 443}


class Requests:
    """Sends requests where the policy allows, over one pool of connections."""

    def __init__(self, policy: OutboundPolicy, *, authorities: Path | None = None) -> None:
        """Trust the usual certificate authorities, and those of the PEM file `authorities`."""
        self._policy = policy
        self._client = guarded_client(policy, ssl_context=trusting(authorities))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        auth: httpx2.Auth | None = None,
        redirect: bool = False,
        most: int | None = None,
    ) -> Fetched:
        """Send one request and return the answer, whatever its status.

        Args:
            method: In upper case.
            url: An absolute address.
            seconds: How long everything may take, authentication and redirects included.
            headers: What to send beside what httpx2 adds.
            content: The body.
            auth: Authenticates, as `Authentication.auth` gives it.
            redirect: Whether redirects are followed.
            most: How many bytes the answer may have, decompressed; the policy's cap unless given.

        Raises:
            CallFailedError: There is no answer, or more than allowed.
        """
        with _translated(method, url):
            return await fetch(
                self._client,
                self._policy,
                method=method,
                url=url,
                headers=headers,
                content=content,
                follow_redirects=redirect,
                seconds=seconds,
                max_bytes=most,
                auth=auth,
            )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        auth: httpx2.Auth | None = None,
    ) -> AsyncGenerator[Streamed]:
        """Send one request as `send` does, and give the answer while it comes; the time is the caller's.

        Raises:
            CallFailedError: There is no answer, or more than allowed; reading it says so too.
        """
        with _translated(method, url):
            async with stream(
                self._client, self._policy, method=method, url=url, headers=headers, content=content, auth=auth
            ) as answer:
                yield answer


@contextmanager
def _translated(method: str, url: str) -> Generator[None]:
    """Let what goes wrong with a request be the failure of its call."""
    line = described(method, url)
    try:
        yield
    except OutboundTimeoutError as error:
        raise CallFailedError("timeout", f"{line}: {error}") from None
    except TargetError as error:
        raise CallFailedError("configuration", f"{line}: {error}") from None
    except RefusedAddressError as error:
        raise CallFailedError("authorization", f"{line}: {error}") from None
    except OutboundError as error:
        raise CallFailedError("communication", f"{line}: {error}") from None
    except httpx2.TransportError as error:
        reason = str(error) or type(error).__name__
        raise CallFailedError("communication", f"{line}: {reason}", status=503) from None
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise CallFailedError("configuration", f"{line}: {error}") from None


def expand(endpoint: EndpointArguments) -> str:
    """Return the address of an endpoint."""
    return (
        endpoint["uri"] if endpoint["template"] is None else URITemplate(endpoint["uri"]).expand(endpoint["template"])
    )


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses are of one scheme, host and port: what is for one may then go to the other."""
    try:
        return _origin(one) == _origin(other)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname, parts.port or _PORTS.get(scheme)


def described(method: str, url: str) -> str:
    """Return a request for a message: the query may hold what is nobody's business."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{method} an address that is none"
    return f"{method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def trusting(authorities: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the usual certificate authorities, and those of a PEM file."""
    context = httpx2.create_ssl_context(trust_env=False)
    if authorities is not None:
        context.load_verify_locations(cafile=authorities)
    return context
