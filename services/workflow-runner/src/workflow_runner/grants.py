"""What each OAuth2 grant and each way of a client to prove itself needs. Pure.

Properties are those of an `oauth2` or `oidc` policy, as JSON.
"""

from collections.abc import Iterator, Mapping
from typing import Any

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant
GRANTS: Mapping[str, tuple[str, ...]] = {
    "client_credentials": ("client",),
    "password": ("username", "password"),
    "refresh_token": ("subject",),
    TOKEN_EXCHANGE: ("subject",),
}
"""The grants that need no person, and the properties that each needs. A refresh token is the `subject`."""
CLIENTS: Mapping[str, tuple[str, ...]] = {
    "client_secret_basic": ("id", "secret"),
    "client_secret_post": ("id", "secret"),
    "client_secret_jwt": ("id", "secret"),
    "private_key_jwt": ("id", "assertion"),
    "none": ("id",),
}


def client_authentication(properties: Mapping[str, Any]) -> str | None:
    """Return how the client proves itself; None where there is no client."""
    client: Mapping[str, Any] = properties.get("client") or {}
    return str(client.get("authentication") or "client_secret_post") if client else None


def problems(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield why no token can be had with `properties`: JSON pointer into them, and a sentence."""
    grant = str(properties.get("grant"))
    if grant == "authorization_code":
        yield "/grant", "the grant authorization_code needs a person at a browser; use client_credentials or another"
    elif grant not in GRANTS:
        yield "/grant", f"there is no grant {grant!r}; there are {', '.join(GRANTS)}"
    for name in GRANTS.get(grant, ()):
        if not properties.get(name):
            yield "", f"the grant {grant} needs `{name}`"
    authentication = client_authentication(properties)
    if authentication is not None and authentication not in CLIENTS:
        yield "/client/authentication", f"there is no {authentication!r}; there are {', '.join(CLIENTS)}"
    client: Mapping[str, Any] = properties.get("client") or {}
    for name in CLIENTS.get(authentication or "", ()):
        if not client.get(name):
            yield "/client", f"{authentication} needs `{name}`"
