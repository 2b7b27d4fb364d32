"""What kind of place an IP address is. Pure: no sockets and no names."""

from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

IPAddress = IPv4Address | IPv6Address


class Reach(Enum):
    """Where an address lies, as far as a policy cares."""

    PUBLIC = "public"
    """Routed on the internet."""
    LOOPBACK = "loopback"
    """This machine."""
    PRIVATE = "private"
    """RFC 1918."""
    SPECIAL = "special"
    """Never a service that a user may name: link-local, metadata, shared, multicast, reserved, embedded."""


_V4_PRIVATE = tuple(ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_V4_SPECIAL = {
    ip_network("0.0.0.0/8"): "this network",
    ip_network("100.64.0.0/10"): "carrier-grade NAT",
    ip_network("168.63.129.16/32"): "cloud metadata",
    ip_network("169.254.0.0/16"): "link-local and cloud metadata",
    ip_network("192.0.0.0/24"): "protocol assignments",
    ip_network("192.0.2.0/24"): "documentation",
    ip_network("192.88.99.0/24"): "6to4 relay",
    ip_network("198.18.0.0/15"): "benchmarking",
    ip_network("198.51.100.0/24"): "documentation",
    ip_network("203.0.113.0/24"): "documentation",
    ip_network("224.0.0.0/4"): "multicast",
    ip_network("240.0.0.0/4"): "reserved",
}
# IPv6 names for IPv4 addresses are how filters are walked around; no service needs to be named like that.
_V6_SPECIAL = {
    ip_network("::/128"): "unspecified",
    ip_network("::ffff:0:0/96"): "IPv4-mapped",
    ip_network("::ffff:0:0:0/96"): "IPv4-translated",
    ip_network("::/96"): "IPv4-compatible",
    ip_network("64:ff9b::/96"): "NAT64",
    ip_network("64:ff9b:1::/48"): "local-use NAT64",
    ip_network("100::/64"): "discard",
    ip_network("2001::/23"): "protocol assignments and Teredo",
    ip_network("2001:db8::/32"): "documentation",
    ip_network("2002::/16"): "6to4",
    ip_network("3fff::/20"): "documentation",
    ip_network("5f00::/16"): "segment routing",
    ip_network("fc00::/7"): "unique local",
    ip_network("fe80::/10"): "link-local",
    ip_network("fec0::/10"): "site-local",
    ip_network("ff00::/8"): "multicast",
}
_V6_GLOBAL = IPv6Network("2000::/3")


def classify(address: IPAddress) -> tuple[Reach, str]:
    """Return where `address` lies and a word for people; what is not known to be routed is special."""
    if address.is_loopback and not _is_embedded(address):
        return Reach.LOOPBACK, "loopback"
    if isinstance(address, IPv4Address):
        if any(address in network for network in _V4_PRIVATE):
            return Reach.PRIVATE, "private"
        special = next((word for network, word in _V4_SPECIAL.items() if address in network), None)
        return (Reach.SPECIAL, special) if special else (Reach.PUBLIC, "public")
    if address.scope_id is not None:
        return Reach.SPECIAL, "scoped"
    special = next((word for network, word in _V6_SPECIAL.items() if address in network), None)
    if special:
        return Reach.SPECIAL, special
    return (Reach.PUBLIC, "public") if address in _V6_GLOBAL else (Reach.SPECIAL, "reserved")


def _is_embedded(address: IPAddress) -> bool:
    # From Python 3.13 on ::ffff:127.0.0.1 counts as loopback.
    return isinstance(address, IPv6Address) and address != IPv6Address("::1")
