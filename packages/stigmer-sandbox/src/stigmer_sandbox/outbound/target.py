"""Reading an address the way it is written, and refusing every writing that two parsers could read differently."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from stigmer_sandbox.errors import TargetError

_MAX_LENGTH = 8192
_AUTHORITY = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)")
_UNSEEN = re.compile(r"[\x00-\x20\\\x7f-\x9f]")
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# They resolve to link-local addresses where they exist; refused by name so that no resolver decides.
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom a URL names."""

    scheme: str
    host: str
    """Lower case, without brackets."""
    port: int


@lru_cache(maxsize=256)
def read_target(url: str) -> Target:
    """Return whom `url` names. Each exchange asks several times, and most are with the same few.

    Raises:
        TargetError: It is not plain http or https, or is written in an ambiguous way: user
            information, odd number formats, percent signs or foreign letters in the host,
            trailing dots, backslashes, blanks or control characters.
    """
    if len(url) > _MAX_LENGTH:
        raise TargetError(f"the URL is longer than {_MAX_LENGTH} characters")
    if _UNSEEN.search(url):
        raise TargetError("the URL holds a blank, a backslash or a control character")
    match = _AUTHORITY.match(url)
    if match is None:
        raise TargetError("the URL is not of the form http://host/path")
    scheme, authority = match["scheme"].lower(), match["authority"]
    if scheme not in _DEFAULT_PORTS:
        raise TargetError(f"the scheme {scheme!r} is not http or https")
    if "@" in authority:
        raise TargetError("the URL holds user information before the host; use authentication instead")
    host, port = _split(authority)
    return Target(scheme=scheme, host=read_host(host), port=_DEFAULT_PORTS[scheme] if port is None else port)


def _split(authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise TargetError("the brackets of the IPv6 address are not in order")
        return f"{host}]", _read_port(rest[1:]) if rest else None
    host, colon, port = authority.partition(":")
    return host, _read_port(port) if colon else None


def _read_port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 0 < int(text) < 65536:
        raise TargetError(f"{text!r} is not a port")
    return int(text)


def read_host(host: str) -> str:
    """Return the host that `host`, a name or an address (IPv6 in brackets), means: lower case, without brackets.

    Raises:
        TargetError: It is written in an ambiguous way.
    """
    if host.startswith("["):
        return _read_v6(host[1:-1])
    if not host:
        raise TargetError("the URL names no host")
    if not host.isascii():
        raise TargetError("the host holds letters outside ASCII; write it in its xn-- form")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetError(f"{host!r} is not a plain host name or address")
    if _NUMBER.fullmatch(labels[-1]):
        return _read_v4(host)
    if host.lower() in _METADATA_NAMES:
        raise TargetError(f"{host!r} is a cloud metadata service, which is never allowed")
    return host.lower()


def _read_v4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise TargetError(f"{host!r} is not an IPv4 address in its usual form") from None


def _read_v6(host: str) -> str:
    try:
        address = IPv6Address(host)
    except AddressValueError:
        raise TargetError(f"{host!r} is not an IPv6 address") from None
    if address.scope_id is not None:
        raise TargetError("the IPv6 address holds a zone")
    return str(address)
