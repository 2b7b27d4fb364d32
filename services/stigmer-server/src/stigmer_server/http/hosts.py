"""Whom a browser may speak for: the names that the server answers to, and the origins that it lets in.

A server on the loopback interface is within reach of every page that its user opens. A page that makes its own name
resolve to 127.0.0.1 is stopped by the name in Host; a page elsewhere that just sends requests, by Origin.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from stigmer_grpc import StatusCode

from stigmer_server.http.problems import HttpError

ANY = "*"


class Hosts:
    """Which requests may come in at all.

    Args:
        names: Names the server is reached by, beside those of the loopback interface and the address that the request
            came to; `*` for every name.
        origins: Origins of pages elsewhere that may call, such as `https://app.example.com`; `*` for every one.
    """

    def __init__(self, names: Collection[str], origins: Collection[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def check(self, scope: Any, headers: Headers) -> None:
        """Let the request in. Raises: HttpError: it is not meant for this server, or comes from elsewhere."""
        host = headers.get("host", "")
        name = _name(host)
        if not name or not self._answers_to(name, scope):
            message = f"this server does not answer to the name {name!r}; allow it with --http-allowed-hosts"
            raise HttpError(421, StatusCode.PERMISSION_DENIED, message)
        origin = headers.get("origin")
        if origin is not None and not self._lets_in(origin.lower(), host.lower(), scope["scheme"]):
            message = f"pages of {origin[:200]!r} may not call this server; allow them with --http-allowed-origins"
            raise HttpError(403, StatusCode.PERMISSION_DENIED, message)

    def _answers_to(self, name: str, scope: Any) -> bool:
        if name in self._names or ANY in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        # No page can make a name of its own look like an address, so the one that was dialled is as good.
        return address.is_loopback or name == (scope.get("server") or ("",))[0]

    def _lets_in(self, origin: str, host: str, scheme: str) -> bool:
        return origin == f"{scheme}://{host}" or origin in self._origins or ANY in self._origins


def _name(host: str) -> str:
    """Return the name in a Host header, without its port; "" when there is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
        plain = parts.username is None and parts.netloc == host
        return (parts.hostname or "").rstrip(".") if plain else ""
    except ValueError:
        return ""
