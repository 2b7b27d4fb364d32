"""Where outbound requests may go, and how much they may cost."""

from dataclasses import dataclass
from ipaddress import ip_address

from stigmer_sandbox.errors import RefusedAddressError
from stigmer_sandbox.outbound.address import IPAddress, Reach, classify

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundPolicy:
    """Rules for requests whose address a user wrote.

    Link-local, metadata, carrier-grade NAT, unique local, multicast, reserved and embedded
    addresses are always refused; no field allows them.
    """

    allow_loopback: bool = True
    """This machine. Right for a stack on one's own machine, wrong for a shared one."""
    allow_private: bool = True
    """RFC 1918 networks. Right for a stack on one's own machine, wrong for a shared one."""
    max_response_bytes: int = 10 * _MEBIBYTE
    """Cap on a body, counted after decompression."""
    max_redirects: int = 10
    """How many redirects one exchange follows."""
    connect_timeout: float = 10.0
    """Seconds to find and reach one peer."""
    total_timeout: float = 300.0
    """Seconds for one whole exchange, unless the caller gives fewer or more."""

    def check(self, address: IPAddress | str, *, host: str) -> IPAddress:
        """Return `address` parsed when it may be reached.

        Raises:
            RefusedAddressError: It may not; the message names `host` and the reason.
        """
        parsed = ip_address(address) if isinstance(address, str) else address
        reach, word = classify(parsed)
        if reach is Reach.SPECIAL:
            raise RefusedAddressError(f"{host} leads to {parsed} ({word}), which is never allowed")
        if reach is Reach.LOOPBACK and not self.allow_loopback:
            raise RefusedAddressError(f"{host} leads to {parsed} ({word}), which this runner's policy refuses")
        if reach is Reach.PRIVATE and not self.allow_private:
            raise RefusedAddressError(f"{host} leads to {parsed} ({word}), which this runner's policy refuses")
        return parsed
