"""Slowing down those who guess: what failed attempts cost the host that they come from.

Knows hosts and times, and nothing of what is attempted. Memory is bounded, however many hosts there are.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

_NETWORK_BITS = 64
"""Of an IPv6 address: what one customer of a provider has at least to choose addresses from."""


@dataclass(slots=True)
class _Host:
    failures: int
    last: float
    waiting: int = 0


class Backoff:
    """Counts failed attempts by host, and says how long the answer to the next one should take.

    Args:
        free: Failures that cost nothing: people mistype.
        first: Seconds that the next one costs; each further one twice as much.
        longest: Seconds that one costs at most.
        forget: Seconds without a failure after which a host is like new.
        most_waiting: Attempts of one host that may be waiting for their answers at once.
        most_hosts: Hosts to remember; of more, the one that failed longest ago is forgotten.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        free: int = 5,
        first: float = 0.1,
        longest: float = 5.0,
        forget: float = 600.0,
        most_waiting: int = 8,
        most_hosts: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = free
        self._first = first
        self._longest = longest
        self._forget = forget
        self._most_waiting = most_waiting
        self._most_hosts = most_hosts
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def is_crowded(self, peer: str) -> bool:
        """Tell whether so many attempts of the peer's host wait already that further ones should be turned away."""
        host = self._hosts.get(host_of(peer))
        return host is not None and host.waiting >= self._most_waiting

    def fail(self, peer: str) -> float:
        """Count a failed attempt, and return the seconds after which to answer it."""
        name, now = host_of(peer), self._clock()
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(failures=0, last=now)
        elif now - host.last > self._forget:
            host.failures = 0
        host.failures += 1
        host.last = now
        self._hosts.move_to_end(name)
        if len(self._hosts) > self._most_hosts:
            self._hosts.popitem(last=False)
        beyond = host.failures - self._free
        return 0.0 if beyond <= 0 else min(self._first * 2.0 ** min(beyond - 1, 30), self._longest)

    def wait(self, peer: str) -> Callable[[], None]:
        """Count an attempt as waiting for its answer until the returned function is called."""
        host = self._hosts.get(host_of(peer))
        if host is None:
            return _nothing
        host.waiting += 1

        def done() -> None:
            host.waiting -= 1

        return done


def host_of(peer: str) -> str:
    """Return what callers cannot change at will of where a call comes from, as gRPC writes it.

    That is the address without its port, and of an IPv6 address the network.
    """
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return peer
    try:
        address = ip_address(unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> _NETWORK_BITS << _NETWORK_BITS))
    return str(address)


def _nothing() -> None:
    pass
