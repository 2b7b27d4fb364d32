"""Proving to a peer who we are, by an evaluated policy (see `workflow_runner.arguments`).

A call over HTTP gives `auth` to `Requests.send`; one over something else sends what `headers` gives, as
headers or metadata, and asks again with `refused=True` when the peer refuses it.
"""

import base64
import json
from collections.abc import AsyncGenerator, Generator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, cast

import httpx2

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.concealment import conceal
from workflow_runner.activities.digest import Digests

Policy = Mapping[str, Any]
"""One of `basic`, `bearer`, `digest`, `oauth2` or `oidc`, with its properties or with the `secret` that holds them."""

_PRIVATE = ("password", "token", "secret", "assertion")
_SECONDS = 30.0


class TokenSource(Protocol):
    """Where access tokens come from."""

    async def get(self, scheme: str, properties: Mapping[str, Any], *, refused: str = "", seconds: float) -> str:
        """Return an access token for the properties of an `oauth2` or `oidc` policy, not the one that was `refused`.

        Raises:
            CallFailedError: There is none to be had.
        """
        ...


class Authentication:
    """Applies policies to what is sent."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens
        self._digests = Digests()

    def auth(self, policy: Policy | None) -> httpx2.Auth | None:
        """Return what authenticates HTTP requests by `policy`; None for none.

        Raises:
            CallFailedError: The secret of the policy does not hold what it needs.
        """
        if policy is None:
            return None
        scheme, properties = _read(policy)
        if scheme == "digest":
            return self._digests.auth(str(properties["username"]), str(properties["password"]))
        if scheme in ("oauth2", "oidc"):
            return _TokenAuth(self._tokens, scheme, properties)
        return _HeaderAuth(_authorization(scheme, properties))

    async def headers(
        self, policy: Policy | None, *, refused: bool = False, seconds: float = _SECONDS
    ) -> dict[str, str]:
        """Return the headers, or metadata, that authenticate by `policy`; none for none.

        Args:
            policy: The policy.
            refused: Whether the peer refused what was sent before: a token is then had anew.
            seconds: How long getting a token may take.

        Raises:
            CallFailedError: The policy needs a challenge, which only HTTP has, or there is no token.
        """
        if policy is None:
            return {}
        scheme, properties = _read(policy)
        if scheme == "digest":
            raise CallFailedError("configuration", "digest authentication is one of HTTP alone")
        if scheme in ("oauth2", "oidc"):
            last = await self._tokens.get(scheme, properties, seconds=seconds)
            token = last if not refused else await self._tokens.get(scheme, properties, refused=last, seconds=seconds)
            return {"Authorization": f"Bearer {token}"}
        return {"Authorization": _authorization(scheme, properties)}


class _Read(NamedTuple):
    scheme: str
    properties: Mapping[str, Any]


def _read(policy: Policy) -> _Read:
    """Return the scheme of a policy, and its properties out of the secret if they stand in one."""
    ((scheme, properties),) = policy.items()
    if "secret" in properties:
        properties = _opened(scheme, properties["secret"])
        # The environment's own redaction knows the secret as a whole only.
        _conceal_in(properties)
    return _Read(scheme, properties)


def _opened(scheme: str, secret: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(secret)
    except ValueError:
        found = None
    if scheme == "bearer" and not isinstance(found, dict):
        return {"token": secret}
    needed = {"bearer": ("token",), "oauth2": ("authority", "grant"), "oidc": ("authority", "grant")}
    names = needed.get(scheme, ("username", "password"))
    if not isinstance(found, dict) or any(name not in found for name in names):
        listed = " and ".join(names)
        raise CallFailedError(
            "authentication", f"the secret of the {scheme} authentication is no JSON object with {listed}"
        )
    return cast("dict[str, Any]", found)


def _conceal_in(properties: Mapping[str, Any]) -> None:
    for name, value in properties.items():
        if isinstance(value, dict):
            _conceal_in(cast("dict[str, Any]", value))
        elif name in _PRIVATE:
            conceal(str(value))


def _authorization(scheme: str, properties: Mapping[str, Any]) -> str:
    if scheme == "bearer":
        value = f"Bearer {properties['token']}"
    else:
        pair = f"{properties['username']}:{properties['password']}"
        value = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if "\r" in value or "\n" in value:
        raise CallFailedError("authentication", f"the {scheme} credentials hold a line break")
    return value


class _HeaderAuth(httpx2.Auth):
    """Says the same to every request."""

    def __init__(self, value: str) -> None:
        self._value = value

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = self._value
        yield request


class _TokenAuth(httpx2.Auth):
    """Says an access token, and a new one when the peer refuses it."""

    def __init__(self, tokens: TokenSource, scheme: str, properties: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._scheme = scheme
        self._properties = properties

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        # The exchange that this is part of has a limit of its own, which is the shorter one.
        token = await self._tokens.get(self._scheme, self._properties, seconds=_SECONDS)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            token = await self._tokens.get(self._scheme, self._properties, refused=token, seconds=_SECONDS)
            request.headers["Authorization"] = f"Bearer {token}"
            yield request
